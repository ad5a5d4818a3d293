"""Who sits at which address (SAE J1939-81): NAMEs, claims and contention.

A controller claims an address by sending its 64 bit NAME from it. Where two claim one, the NAME of the lower
value has it; the holder must then claim it again, and one that doesn't within 250 ms is no more there (a
controller was exchanged), so that the higher NAME has it. A NAME that claims another address has left the old one; one that "cannot claim" (from the null
address 254) has none. A commanded address needs nothing of a listener: the one who obeys claims it.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.can.j1939.identifier import NULL

NAME_BYTES = 8
DEFENCE_US = 250_000  # within which a holder claims again
# field -> (first bit, bits), of the NAME as a little-endian number
_FIELDS = {
    "identity_number": (0, 21),
    "manufacturer_code": (21, 11),
    "ecu_instance": (32, 3),
    "function_instance": (35, 5),
    "function": (40, 8),
    "vehicle_system": (49, 7),
    "vehicle_system_instance": (56, 4),
    "industry_group": (60, 3),
    "arbitrary_address_capable": (63, 1),
}


class Name(NamedTuple):
    """A NAME, taken apart. `value` is the whole, 64 bits."""

    value: int
    identity_number: int
    manufacturer_code: int
    ecu_instance: int
    function_instance: int
    function: int
    vehicle_system: int
    vehicle_system_instance: int
    industry_group: int
    arbitrary_address_capable: int

    @classmethod
    def from_int(cls, value: int) -> Name:
        """The NAME of a 64 bit value.

        Raises
        ------
        ValueError
            It has more than 64 bits.
        """
        if not 0 <= value < 1 << 64:
            raise ValueError(f"a NAME has 64 bits, and {value:#x} has more")
        return cls(value, *(value >> first & ((1 << bits) - 1) for first, bits in _FIELDS.values()))


class Claim(NamedTuple):
    """A change: who sits at an address since the frame at `frame`; None: nobody any more."""

    frame: int
    address: int
    name: Name | None


class Addresses:
    """The addresses of one channel. `names` maps address to NAME; `generation` rises with every change."""

    def __init__(self) -> None:
        self.names: dict[int, Name] = {}
        self.generation = 0
        self.contended = 0  # claims of an address that another held
        self._address_of: dict[int, int] = {}
        self._challengers: dict[
            int, tuple[int, int]
        ] = {}  # address -> the higher NAME that wants it, since when

    def address_of(self, name: int) -> int | None:
        """Where the NAME sits now."""
        return self._address_of.get(name)

    @property
    def undecided(self) -> int:
        """Addresses whose holders have yet to claim them again."""
        return len(self._challengers)

    def claim(self, index: int, time_us: int, address: int, data: bytes) -> list[Claim]:
        """Take in an Address Claimed or Cannot Claim message; what it changed."""
        changes = self.settle(index, time_us)
        value = int.from_bytes(data[:NAME_BYTES], "little")
        if self._address_of.get(value) == address:
            self._challengers.pop(address, None)
            return changes
        self._challengers = {a: c for a, c in self._challengers.items() if c[0] != value or a == address}
        holder = self.names.get(address)
        moved = self._leave(index, value)
        if address < NULL:
            self.contended += holder is not None
            if holder is None or value < holder.value:
                moved += self._sit(index, address, value)
            else:
                self._challengers.setdefault(address, (value, time_us))
        self.generation += bool(moved)
        return changes + moved

    def settle(self, index: int, now_us: int) -> list[Claim]:
        """Give the addresses that their holders did not defend to those who claimed them; what it changed."""
        changes: list[Claim] = []
        for address, (value, since_us) in list(self._challengers.items()):
            if not 0 <= now_us - since_us <= DEFENCE_US:
                del self._challengers[address]
                changes += self._sit(index, address, value)
        self.generation += bool(changes)
        return changes

    def _sit(self, index: int, address: int, value: int) -> list[Claim]:
        if holder := self.names.get(address):
            self._leave(index, holder.value)
        self._challengers.pop(address, None)
        self.names[address] = Name.from_int(value)
        self._address_of[value] = address
        return [Claim(index, address, self.names[address])]

    def _leave(self, index: int, value: int) -> list[Claim]:
        address = self._address_of.pop(value, None)
        if address is None:
            return []
        del self.names[address]
        self._challengers.pop(address, None)
        return [Claim(index, address, None)]

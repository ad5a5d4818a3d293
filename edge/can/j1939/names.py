"""Who sits at which address (SAE J1939-81): NAMEs, claims and contention.

A controller claims an address by sending its 64 bit NAME from it. Where two claim one, the NAME of the lower
value keeps it. A NAME that claims another address has left the old one; one that "cannot claim" (from the null
address 254) has none. A commanded address needs nothing of a listener: the one who obeys claims it.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.can.j1939.identifier import NULL

NAME_BYTES = 8
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

    def address_of(self, name: int) -> int | None:
        """Where the NAME sits now."""
        return self._address_of.get(name)

    def claim(self, index: int, address: int, data: bytes) -> list[Claim]:
        """Take in an Address Claimed or Cannot Claim message; what it changed."""
        value = int.from_bytes(data[:NAME_BYTES], "little")
        if self._address_of.get(value) == address:
            return []
        holder = self.names.get(address)
        changes = self._leave(index, value)
        if address < NULL:
            if holder is not None:
                self.contended += 1
            if holder is None or value < holder.value:
                changes += self._leave(index, holder.value) if holder else []
                self.names[address] = Name.from_int(value)
                self._address_of[value] = address
                changes = [c for c in changes if c.address != address]
                changes.append(Claim(index, address, self.names[address]))
        self.generation += bool(changes)
        return changes

    def _leave(self, index: int, value: int) -> list[Claim]:
        address = self._address_of.pop(value, None)
        if address is None:
            return []
        del self.names[address]
        return [Claim(index, address, None)]

"""What guards a message, as a signal map names it: its counter and its checksum.

Here is what may be said and what it must agree with; edge/can/protection.py has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cantools.database.can.signal import Signal as DbSignal

MAX_COUNTER_BITS = 16


@dataclass(frozen=True)
class Counter:
    """An alive counter: a signal that goes from 0 to `last`, one step a frame, and begins again."""

    signal: str
    last: int


@dataclass(frozen=True)
class Checksum:
    """A checksum: the signal that holds it, its kind, and what goes into it.

    `data_ids` are AUTOSAR's: one of 16 bits (profiles 1, 5, 11) or 16 of 8 bits (profile 2). `first_byte`
    and `last_byte` bound what is protected, inclusive. `nibble` names the signal with the explicit part
    of a data id in mode "nibble"; None: the other half of the counter's byte.
    """

    signal: str
    kind: str
    data_ids: tuple[int, ...] = ()
    data_id_mode: str = ""
    first_byte: int = 0
    last_byte: int = 0
    nibble: str | None = None


@dataclass(frozen=True)
class Kind:
    """What a kind of checksum needs: bits of its signal, data ids, a counter and where that begins again."""

    bits: tuple[int, ...] = (8,)
    ids: int = 0  # how many data ids
    id_bits: int = 16
    modes: tuple[str, ...] = ()  # the first is the default
    counter_bits: int = 0  # 0: it needs none
    last: int = 0  # the counter's; 0: all bits set


KINDS: Mapping[str, Kind] = {
    "xor": Kind(),
    "sum": Kind(),
    "crc8-sae-j1850": Kind(),
    "crc8-autosar": Kind(),
    "crc8-smbus": Kind(),
    "crc8-maxim-dow": Kind(),
    "crc16-ibm-3740": Kind(bits=(16,)),
    "j1939-tsc1": Kind(bits=(3, 4), counter_bits=4, last=7),
    "j1939-xbr": Kind(bits=(4,), counter_bits=4),
    "autosar-e2e-1": Kind(
        ids=1, modes=("both", "alternating", "low", "nibble"), counter_bits=4, last=14
    ),
    "autosar-e2e-2": Kind(ids=16, id_bits=8, counter_bits=4),
    "autosar-e2e-5": Kind(bits=(16,), ids=1, counter_bits=8),
    "autosar-e2e-11": Kind(ids=1, modes=("both", "nibble"), counter_bits=4, last=14),
}  # fmt: skip

Wrong = Callable[[str, str], None]  # key, what is wrong


def read_counter(value: Any, signals: Mapping[str, DbSignal], kind: str, wrong: Wrong) -> Counter | None:
    """The counter of a message: "NAME" or { signal = "NAME", last = 14 }; `kind` of its checksum, or ""."""
    if value is None:
        return None
    if isinstance(value, str):
        value = {"signal": value}
    if not isinstance(value, dict) or not {"signal"} <= value.keys() <= {"signal", "last"}:
        wrong("counter", 'counter must be "NAME" or { signal = "NAME", last = HIGHEST }')
        return None
    name = value["signal"]
    signal = signals.get(name) if isinstance(name, str) else None
    if signal is None or signal.is_float or signal.multiplexer_ids:
        wrong("counter", f"counter: the message has no whole, unmultiplexed signal {name!r}")
        return None
    if signal.length > MAX_COUNTER_BITS:
        wrong("counter", f"counter: {name} has {signal.length} bits; at most {MAX_COUNTER_BITS}")
        return None
    most = (1 << signal.length) - 1
    known = KINDS.get(kind, Kind())
    last = value.get("last", min(most, known.last or most))
    if type(last) is not int or not 0 < last <= most:
        wrong("counter", f"counter: last must be a whole number from 1 to {most}, the highest of {name}")
        return None
    return Counter(signal.name, last)


def read_checksum(
    value: Any, signals: Mapping[str, DbSignal], counter: Counter | None, length: int, wrong: Wrong
) -> Checksum | None:
    """The checksum of a message of `length` bytes: { signal = "NAME", kind = "KIND", ... }."""
    if value is None:
        return None
    kind_name = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict) or "signal" not in value or "kind" not in value:
        wrong("checksum", 'checksum must be { signal = "NAME", kind = "KIND" }')
        return None
    kind = KINDS.get(kind_name) if isinstance(kind_name, str) else None
    if kind is None:
        wrong("checksum", f"checksum: unknown kind {kind_name!r}; there are {', '.join(sorted(KINDS))}")
        return None
    return _Reader(value, kind, signals, counter, length, wrong).read()


class _Reader:
    """One checksum table of a known kind; every mistake in it is reported."""

    def __init__(
        self, value: dict[str, Any], kind: Kind, signals: Mapping[str, DbSignal], counter: Counter | None,
        length: int, wrong: Wrong,
    ) -> None:  # fmt: skip
        self.value, self.kind, self.signals, self.counter = value, kind, signals, counter
        self.length, self.name = length, str(value["kind"])
        self.good = True
        self._report = wrong

    def read(self) -> Checksum | None:
        self._keys()
        signal = self._signal()
        self._counter()
        ids = self._ids()
        mode = self._mode()
        if mode == "nibble" and any(i > 0xFFF for i in ids):
            self._wrong('a data id in mode "nibble" has 12 bits: at most 0xFFF')
        first, last = self._bytes()
        nibble = self._nibble(mode)
        if not self.good or signal is None:
            return None
        return Checksum(signal.name, self.name, ids, mode, first, last, nibble)

    def _keys(self) -> None:
        known = {"signal", "kind", "bytes"}
        known |= {"data_id"} if self.kind.ids == 1 else {"data_ids"} if self.kind.ids else set()
        known |= {"data_id_mode", "data_id_nibble"} if self.kind.modes else set()
        for key in sorted(self.value.keys() - known):
            self._wrong(f"unknown key {key!r}; {self.name} has {', '.join(sorted(known))}")

    def _signal(self) -> DbSignal | None:
        name = self.value["signal"]
        signal = self.signals.get(name) if isinstance(name, str) else None
        bits = " or ".join(str(n) for n in self.kind.bits)
        if signal is None or signal.is_float or signal.multiplexer_ids or signal.length not in self.kind.bits:
            self._wrong(f"the message has no unmultiplexed signal {name!r} of {bits} bits")
            return None
        if signal.length >= 8 and signal.start % 8 != (7 if signal.byte_order == "big_endian" else 0):
            self._wrong(f"{name} must begin at a byte's edge")
        return signal

    def _counter(self) -> None:
        if not self.kind.counter_bits:
            return
        if self.counter is None:
            self._wrong(f"{self.name} needs the message's counter, too")
            return
        counter = self.signals[self.counter.signal]
        if self.name.startswith("autosar") and counter.length != self.kind.counter_bits:
            self._wrong(f"the counter of {self.name} has {self.kind.counter_bits} bits, not {counter.length}")
        if self.name.startswith("j1939"):
            checksum = self.signals.get(str(self.value["signal"]))
            if checksum is not None and counter.start // 8 != checksum.start // 8:
                self._wrong(f"the counter of {self.name} must lie in the checksum's byte")

    def _ids(self) -> tuple[int, ...]:
        if not self.kind.ids:
            return ()
        most = (1 << self.kind.id_bits) - 1
        key = "data_id" if self.kind.ids == 1 else "data_ids"
        given = [self.value.get(key)] if self.kind.ids == 1 else self.value.get(key)
        good = isinstance(given, list) and len(given) == self.kind.ids
        if not good or not all(type(i) is int and 0 <= i <= most for i in given or []):
            what = "a number" if self.kind.ids == 1 else f"a list of {self.kind.ids} numbers"
            self._wrong(f"{self.name} needs {key}, {what} from 0 to 0x{most:X}")
            return ()
        return tuple(given or [])

    def _mode(self) -> str:
        if not self.kind.modes:
            return ""
        mode = self.value.get("data_id_mode", self.kind.modes[0])
        if mode not in self.kind.modes:
            self._wrong(f"unknown data_id_mode {mode!r}; {self.name} has {', '.join(self.kind.modes)}")
        return str(mode)

    def _bytes(self) -> tuple[int, int]:
        value = self.value.get("bytes", [0, self.length - 1])
        good = isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value)
        if not good or not 0 <= value[0] <= value[1] < self.length:
            self._wrong(f"bytes must be [FIRST, LAST], within 0 and {self.length - 1}")
            return 0, 0
        return value[0], value[1]

    def _nibble(self, mode: str) -> str | None:
        name = self.value.get("data_id_nibble")
        if mode != "nibble":
            if name is not None:
                self._wrong('data_id_nibble goes with data_id_mode = "nibble"')
            return None
        if name is None:
            counter = self.signals.get(self.counter.signal) if self.counter else None
            if counter is not None and low_bit(counter) % 4:
                self._wrong("the counter fills no half of a byte: say data_id_nibble")
            return None
        signal = self.signals.get(name) if isinstance(name, str) else None
        if signal is None or signal.length != 4 or signal.is_float or signal.multiplexer_ids:
            self._wrong(f"data_id_nibble: the message has no unmultiplexed signal {name!r} of 4 bits")
        return str(name)

    def _wrong(self, what: str) -> None:
        self.good = False
        self._report("checksum", f"checksum: {what}")


def low_bit(signal: DbSignal) -> int:
    """The place of a signal's lowest bit in its byte; for signals inside one byte."""
    start = int(signal.start)
    return start % 8 - (signal.length - 1 if signal.byte_order == "big_endian" else 0)

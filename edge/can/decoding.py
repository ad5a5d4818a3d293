"""Logs of several channels through databases: rows of decoded signals, in the order of the frames.

A channel has a decoder of its own, made when its first frame comes, and kept from one log to the next: a
J1939 transport that one log begins the next one ends.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cantools.database import Database
from cantools.database import Message as DbMessage

from edge.can.decoder import Counts, Decoder, Events, Slot
from edge.can.frames import Frames
from edge.can.j1939 import Name, pgn_of
from edge.can.j1939.messages import SIGNALS, ProtocolMessages
from edge.can.writers import Column, Rows, Value
from edge.errors import DatabaseError, LogError
from edge.signals.databases import find_database, load_database

MAX_CHANNELS = 256


class Databases:
    """Which messages each channel has: those of its own files first, then those of the files for all."""

    def __init__(self, files: Iterable[tuple[str | None, str]], j1939: bool) -> None:
        """`files` are pairs of a channel's name (None: all channels) and a database.

        Raises
        ------
        DatabaseError
            Every database that can't be read, one line each.
        """
        self.j1939 = j1939
        self._files: list[tuple[str | None, str, Database]] = []
        problems: list[str] = []
        for channel, where in files:
            try:
                path = Path(where)
                database = load_database(path if path.is_file() else find_database(where))
            except DatabaseError as error:
                problems += error.problems
                continue
            for message in database.messages if j1939 else ():
                if message.is_extended_frame:
                    message.protocol = "j1939"
            self._files.append((channel, where, database))
        if problems:
            raise DatabaseError(problems)
        self._shared: dict[tuple[str, str], list[str]] = {}  # two files -> the messages of the second
        for name in (*self.named_channels, ""):
            self.of_channel(name)

    @property
    def warnings(self) -> list[str]:
        """A line for each two files that have the same messages, and which of them holds."""
        return [
            f"{kept} and {file} both have {names[0]}"
            + (f" and {len(names) - 1} messages more" if len(names) > 1 else "")
            + f"; {kept} holds"
            for (kept, file), names in self._shared.items()
        ]

    @property
    def named_channels(self) -> list[str]:
        """The channels that have files of their own."""
        return list(dict.fromkeys(channel for channel, _, _ in self._files if channel is not None))

    def names(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Every message there may be, with its signals."""
        if self.j1939:
            yield from SIGNALS.items()
        for _, _, database in self._files:
            for message in database.messages:
                yield message.name, [signal.name for signal in message.signals]

    def pgns(self) -> set[int]:
        """The PGNs that the 29 bit messages would have under J1939."""
        messages = (message for _, _, database in self._files for message in database.messages)
        return {pgn_of(message.frame_id) for message in messages if message.is_extended_frame}

    def of_channel(self, name: str) -> Database:
        """The database of one channel."""
        kept: dict[tuple[int, int], tuple[DbMessage, str]] = {}
        messages: list[DbMessage] = []
        files = [f for f in self._files if f[0] == name] + [f for f in self._files if f[0] is None]
        for _, where, database in files:
            for message in database.messages:
                other, file = kept.setdefault(self.key_of(message), (message, where))
                if file is where:  # within one file the decoder decides
                    messages.append(message)
                    continue
                names = self._shared.setdefault((file, where), [])
                if (named := self._named(other, message)) not in names:
                    names.append(named)
        return Database(messages, strict=False)

    def key_of(self, message: DbMessage) -> tuple[int, int]:
        """What frames a message is matched by: (PGN, 2) if it is J1939's, else (identifier, 1 if extended)."""
        if message.protocol == "j1939" and message.is_extended_frame:
            return pgn_of(message.frame_id), 2
        return message.frame_id, int(message.is_extended_frame)

    def _named(self, kept: DbMessage, other: DbMessage) -> str:
        number, kind = self.key_of(kept)
        what = f"PGN {number}" if kind == 2 else f"identifier 0x{number:X}"
        names = kept.name if kept.name == other.name else f"{kept.name}, {other.name}"
        return f"{what} ({names})"


class Selection:
    """Which signals are wanted: `Signal`, `Message.Signal`, or a pattern of either (`*`, `?`, `[...]`)."""

    def __init__(self, wanted: Sequence[str], messages: Iterable[tuple[str, Iterable[str]]]) -> None:
        """`messages` are the known ones, each with its signals.

        Raises
        ------
        DatabaseError
            Nothing that is known has that name.
        """
        self._wanted = tuple(wanted)
        known = [(message, signal) for message, signals in messages for signal in signals]
        problems = []
        for pattern in self._wanted:
            if not any(_matches(pattern, *pair) for pair in known):
                names = sorted({signal for _, signal in known} | {f"{m}.{s}" for m, s in known})
                near = difflib.get_close_matches(pattern, names, 4, 0.5)
                problems.append(
                    f"--signals {pattern}: no database has such a signal"
                    + (f"; near it: {', '.join(near)}" if near else "")
                )
        if problems:
            raise DatabaseError(problems)

    def __contains__(self, name: tuple[str, str]) -> bool:
        """Whether a (message, signal) is wanted; everything is where no one chose."""
        return not self._wanted or any(_matches(pattern, *name) for pattern in self._wanted)


def _matches(pattern: str, message: str, signal: str) -> bool:
    both = f"{message}.{signal}"
    return (
        pattern in (signal, both)
        or fnmatch.fnmatchcase(signal, pattern)
        or fnmatch.fnmatchcase(both, pattern)
    )


_NO_ROWS = Rows(
    np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8)
)


class _Channel:
    """One channel: its decoder, with --j1939 also that of the protocol's own messages, each with its columns' numbers."""

    def __init__(self, number: int, name: str, databases: Databases) -> None:
        database = databases.of_channel(name)
        self.number = number
        self.messages = {databases.key_of(message): message for message in reversed(database.messages)}
        self.counts = Counts(number + 1)
        decoder = Decoder([(number, database, {})])
        self.parts: list[_Part] = [_Part(decoder, lambda frames: decoder.events(frames, self.counts))]
        self.names: dict[int, Name] = {}
        if databases.j1939:
            protocol = ProtocolMessages(number, {key for key, kind in self.messages if kind == 2})
            self.parts.append(_Part(protocol, protocol.events))
            self.names = protocol.names


@dataclass
class _Part:
    """One that gives events of slots, which may grow."""

    decoder: Decoder | ProtocolMessages
    events: Callable[[Frames], Events]
    columns: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))


class LogDecoder:
    """Decodes frames of any number of channels; the `Columns` of what it gives.

    `channels` are their names, a frame's channel number being the place there.
    """

    def __init__(self, databases: Databases, selection: Selection, *, choices: bool = True) -> None:
        self.databases, self._selection, self._choices = databases, selection, choices
        self.channels: list[str] = []
        self.columns: list[Column] = []
        self._of_channel: list[_Channel] = []
        self._of_column: list[tuple[Decoder | ProtocolMessages, int]] = []
        self._chosen = np.zeros(0, bool)
        self._groups: dict[tuple[int, str, int | None], int] = {}

    def channel(self, name: str) -> int:
        """The number of a channel; a new name gets the next, and a decoder.

        Raises
        ------
        LogError
            There are more channels than a frame can number.
        """
        if name not in self.channels:
            number = len(self.channels)
            if number == MAX_CHANNELS:
                raise LogError(f"the logs have over {MAX_CHANNELS} channels")
            self.channels.append(name)
            self._of_channel.append(_Channel(number, name, self.databases))
        return self.channels.index(name)

    @property
    def counts(self) -> Counts:
        """What became of the frames so far, by channel number."""
        counts = Counts(len(self.channels))
        for channel in self._of_channel:
            counts.table[channel.number] = channel.counts.table[channel.number]
        return counts

    def decode(self, frames: Frames) -> Rows:
        """The chosen signals of some frames, whose channels are numbers that `channel` gave."""
        parts = [_NO_ROWS]
        numbers = frames["channel"]
        for channel in self._of_channel:
            which = np.flatnonzero(numbers == channel.number)
            if len(which):
                mine = frames if len(which) == len(frames) else frames[which]
                parts += [self._rows(channel.number, part, mine, which) for part in channel.parts]
        if len(parts) < 3:
            return parts[-1]
        rows = Rows(*map(np.concatenate, zip(*parts, strict=True)))
        return rows.take(np.argsort(rows.frame, kind="stable"))

    def _rows(self, number: int, part: _Part, frames: Frames, which: npt.NDArray[np.intp]) -> Rows:
        events = part.events(frames)
        self._add_columns(number, part)
        column = part.columns[events.slot]
        rows = Rows(which[events.frame].astype(np.int32), column, events.raw, events.value, events.state)
        return rows if self._chosen.all() else rows.take(self._chosen[column])

    def _add_columns(self, number: int, part: _Part) -> None:
        """The slots that are new: all at first, then those of source addresses newly heard."""
        new = part.decoder.slots[len(part.columns) :]
        if not new:
            return
        first = len(self.columns)
        for n, slot in enumerate(new, len(part.columns)):
            self._of_column.append((part.decoder, n))
            group = self._groups.setdefault((number, slot.message, slot.source), len(self._groups))
            self.columns.append(Column(slot.message, slot.signal, group, self._kind(slot)))
        numbers = np.arange(first, len(self.columns), dtype=np.int32)
        part.columns = np.concatenate([part.columns, numbers])
        chosen = [(slot.message, slot.signal) in self._selection for slot in new]
        self._chosen = np.concatenate([self._chosen, np.array(chosen, bool)])

    def _kind(self, slot: Slot) -> str:
        if slot.choices and self._choices:
            return "any"
        whole = float(slot.scale).is_integer() and float(slot.offset).is_integer()
        return "number" if slot.choices or (whole and not slot.is_float) else "float"

    def names(self) -> list[tuple[str, int, Name]]:
        """Who sits where now: channel, J1939 source address, NAME."""
        return [
            (self.channels[channel.number], address, name)
            for channel in self._of_channel
            for address, name in sorted(channel.names.items())
        ]

    def message_of(self, number: int, frame_id: int, extended: bool) -> DbMessage | None:
        """The message that a channel's database has for an identifier, if any."""
        names = self._of_channel[number].messages
        return names.get((frame_id, int(extended))) or (
            names.get((pgn_of(frame_id), 2)) if extended else None
        )

    def for_people(self, slot: int, raw: int, value: float, state: int) -> Value:
        """See `Columns`."""
        decoder, own = self._of_column[slot]
        return decoder.for_people(own, raw, value, state, choices=self._choices)

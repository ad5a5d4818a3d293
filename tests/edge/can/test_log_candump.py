"""candump logs: the kernel against a plain reader, what is refused and why, and the writer's round trip."""

import random
import re
from pathlib import Path

import can
import numpy as np
import pytest

from edge.can._candump import Parser, format
from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, FRAME, OWN, REMOTE, Frames
from edge.can.logs import CandumpWriter, open_log
from edge.errors import LogError
from tests.edge.can.log_files import SEED, message_of, random_frames, read

LINE = re.compile(
    r"\s*\((\d{1,13})(?:\.(\d*))?\)\s+(\S+)\s+([0-9A-Fa-f]{1,8})#"
    r"(?:#([0-9A-Fa-f])((?:[0-9A-Fa-f]{2}){0,64})|[Rr](\d?)(?:_([9A-Fa-f]))?|((?:[0-9A-Fa-f]{2}){0,8})(?:_([9A-Fa-f]))?)"
    r"(?:\s+([RrTt]))?\s*"
)


def plain(line: str) -> tuple[int, str, int, int, int, bytes] | None:
    """The kernel's plain twin: time, channel, id, flags, length, data of a good line; None of any other."""
    found = LINE.fullmatch(line)
    if not found:
        return None
    seconds, places, channel, digits, fd, fd_data, asked, r_code, data, code, direction = found.groups()
    places = f"{places or '':0<7}"
    time_us = int(seconds) * 10**6 + int(places[:6]) + (places[6] >= "5")
    number = int(digits, 16)
    if time_us > 10**18 or (len(digits) <= 3 and number > 0x7FF) or (code and len(data) != 16):
        return None
    if (r_code and asked != "8") or (asked or "0") > "8":
        return None
    flags = OWN if direction in ("t", "T") else 0
    if len(digits) > 3:
        if number & 0x20000000:
            if number & 0x40000000:
                return None
            flags |= ERROR | (EXTENDED if number & 0x80000000 else 0)
        elif number > 0x1FFFFFFF:
            return None
        else:
            flags |= EXTENDED
    if fd:
        bits = int(fd, 16)
        flags |= FD | (BITRATE_SWITCH if bits & 1 else 0) | (ERROR_STATE if bits & 2 else 0)
    payload = bytes.fromhex(fd_data if fd else data or "")
    if asked is not None:
        flags |= REMOTE
    return time_us, channel, number & 0x1FFFFFFF, flags, int(asked or 0) or len(payload), payload


def as_rows(frames: Frames, channels: list[str]) -> list[tuple[int, str, int, int, int, bytes]]:
    return [
        (
            int(f["time_us"]),
            channels[f["channel"]],
            int(f["id"]),
            int(f["flags"]),
            int(f["length"]),
            b"" if f["flags"] & REMOTE else f["data"][: f["length"]].tobytes(),
        )
        for f in frames
    ]


GOOD = {
    "(1.000001) can0 123#1122": (1_000_001, "can0", 0x123, 0, 2, b"\x11\x22"),
    "(1.000001) can0 123#1122\r": (1_000_001, "can0", 0x123, 0, 2, b"\x11\x22"),
    "  (0000000001.0)\tany.thing-1  00000123#": (10**6, "any.thing-1", 0x123, EXTENDED, 0, b""),
    "(7) can0 7ff#aAbB R": (7 * 10**6, "can0", 0x7FF, 0, 2, b"\xaa\xbb"),
    "(1.0) can0 7FF#AA T": (10**6, "can0", 0x7FF, OWN, 1, b"\xaa"),
    "(1.0) can0 123#R": (10**6, "can0", 0x123, REMOTE, 0, b""),
    "(1.0) can0 1FFFFFFF#R5 T": (10**6, "can0", 0x1FFFFFFF, REMOTE | EXTENDED | OWN, 5, b""),
    "(1.0) can0 123#R8_F": (10**6, "can0", 0x123, REMOTE, 8, b""),
    "(1.0) can0 123#1122334455667788_9": (10**6, "can0", 0x123, 0, 8, bytes.fromhex("1122334455667788")),
    "(1.0) can0 123##0": (10**6, "can0", 0x123, FD, 0, b""),
    "(1.0) can0 123##7" + "AB" * 64: (
        10**6,
        "can0",
        0x123,
        FD | BITRATE_SWITCH | ERROR_STATE,
        64,
        b"\xab" * 64,
    ),
    "(1.0) can0 200000A0#0102030405060708": (10**6, "can0", 0xA0, ERROR, 8, bytes(range(1, 9))),
    "(1.0) can0 20000004#00": (10**6, "can0", 4, ERROR, 1, b"\0"),
    "(1.9999995) can0 123#": (2 * 10**6, "can0", 0x123, 0, 0, b""),
    "(9007199254.740993) can0 123#": (2**53 + 1, "can0", 0x123, 0, 0, b""),
    "(1000000000000.0) can0 123#": (10**18, "can0", 0x123, 0, 0, b""),
}
BAD = {
    "(1.0) can0 123": "malformed",
    "(1.0) can0 123#1": "malformed",
    "(1.0) can0 123#112": "malformed",
    "(1.0) can0 123#11 22": "malformed",
    "(1.0) can0 123#11 R R": "malformed",
    "(1.0) can0 123#11 X": "malformed",
    "(1.0) can0 12g#11": "malformed",
    "(1.0) can0 #11": "malformed",
    "(1.0) can0": "malformed",
    "(1.0)can0 123#": "malformed",
    "1.0 can0 123#": "malformed",
    "(1.0 can0 123#": "malformed",
    "() can0 123#": "malformed",
    "(1e5) can0 123#": "malformed",
    "(nan) can0 123#": "malformed",
    "(1.0) can0 123##": "malformed",
    "(1.0) can0 123##g": "malformed",
    "(1.0) can0 123##0R": "malformed",
    "(1.0) can0 123#11_9": "malformed",
    "(1.0) can0 123#1122334455667788_1": "malformed",
    "(-1.0) can0 123#": "time",
    "(1000000000000.000001) can0 123#": "time",
    "(99999999999999999999999.0) can0 123#": "time",
    "(1.0) can0 800#": "identifier",
    "(1.0) can0 40000000#": "identifier",
    "(1.0) can0 80000001#": "identifier",
    "(1.0) can0 123456789#": "identifier",
    "(1.0) can0 123#112233445566778899": "length",
    "(1.0) can0 123#R9": "length",
    "(1.0) can0 123##0" + "AB" * 65: "length",
    "(1.0) can0 123#81:00:12345678#11223344": "CAN XL",
}


def parse(text: bytes) -> tuple[Frames, list[str], dict[str, int]]:
    parser, frames = Parser(), np.zeros(1 + text.count(b"\n"), FRAME)
    at, count = parser.parse(text, 0, frames)
    assert at == len(text)
    return frames[:count], [name.decode() for name in parser.channels], parser.refused


@pytest.mark.parametrize("line", GOOD)
def test_a_good_line(line: str) -> None:
    frames, channels, refused = parse(line.encode() + b"\n")
    assert as_rows(frames, channels) == [GOOD[line]]
    assert plain(line) == GOOD[line]
    assert refused == {}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_refused_with_its_reason(line: str) -> None:
    frames, channels, refused = parse(line.encode() + b"\n(1.0) ok 123#\n")
    assert (len(frames), channels) == (1, ["ok"])  # a refused line adds no channel
    assert refused == {BAD[line]: 1}
    assert plain(line) is None


def test_mutated_lines_as_the_plain_reader_reads_them() -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    good = 0
    for _ in range(20_000):
        line = bytearray(rng.choice([*GOOD, *GOOD, *BAD]).encode())
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(line) + 1)
            line[at : at + rng.randrange(2)] = rng.choice(
                b"0123456789ABCDEFabcdef#()._RTrt \t-:xg"
            ).to_bytes()
        wanted = plain(line.decode())
        frames, channels, refused = parse(bytes(line) + b"\n")
        assert as_rows(frames, channels) == ([wanted] if wanted else []), line
        assert sum(refused.values()) == (not wanted and bool(line.strip())), line
        good += bool(wanted)
    assert 5000 < good < 15_000


def test_the_parser_stops_where_the_frames_are_full_and_before_half_a_line() -> None:
    text = b"(1.0) a 1#\n\n(2.0) a 2#\nbad\n(3.0) a 3#\n(4.0) a 4"
    for room in (1, 2, 3):
        parser, ids, at = Parser(), [], 0
        while True:
            frames = np.zeros(room, FRAME)
            at, count = parser.parse(text, at, frames)
            ids += frames["id"][:count].tolist()
            if count < room:
                break
        assert (ids, at) == ([1, 2, 3], text.rindex(b"\n") + 1)
        assert parser.refused == {"malformed": 1}


def test_blocks_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = random_frames(300, 5)
    written = to_file(tmp_path / "x", frames, ["a", "b", "c"])
    wanted = read(written)[0]
    for block in (1, 7, 64, 1000):
        monkeypatch.setattr("edge.can.logs.stream.BLOCK", block)
        assert read(written)[0].tobytes() == wanted.tobytes()


def to_file(path: Path, frames: Frames, channels: list[str]) -> Path:
    writer = CandumpWriter(path, channels)
    try:
        writer.write(frames)
    finally:
        writer.close()
    return path


def test_every_kind_of_frame_comes_back_exactly(tmp_path: Path) -> None:
    print("seed", SEED)
    frames = random_frames(30_000, SEED)
    frames["channel"][:3] = range(3)  # channels are numbered as they appear
    frames["time_us"][:4] = [0, 1, 999_999, 1_000_000]
    frames["time_us"][4:9] = [2**53 - 1, 2**53, 10**16, 10**17, 10**18]
    path = to_file(tmp_path / "x", frames, ["can0", "über", "a.b"])
    log = open_log(path)
    assert np.concatenate(list(log)).tobytes() == frames.tobytes()
    assert (log.channels, log.refused) == (["can0", "über", "a.b"], {})
    for row, line in zip(
        as_rows(frames[:2000], log.channels), path.read_text("utf-8").splitlines(), strict=False
    ):
        assert plain(line) == row


def test_what_python_can_reads_of_ours(tmp_path: Path) -> None:
    frames = random_frames(3000, SEED)
    frames = frames[(frames["flags"] & ERROR) == 0]
    path = to_file(tmp_path / "x.log", frames, ["a", "b", "c"])
    with can.LogReader(path) as reader:
        for frame, got in zip(frames, reader, strict=True):
            wanted = message_of(frame)
            assert got.equals(wanted, check_channel=False, timestamp_delta=1e-6)


def test_what_we_read_otherwise_than_python_can(tmp_path: Path) -> None:
    """The list in docs/can/logs.md: each line with what we make of it, and what python-can does."""
    path = tmp_path / "x.log"

    def both(text: str) -> tuple[Frames, can.Message | type[Exception]]:
        path.write_text(text)
        with can.LogReader(path) as reader:
            try:
                return read(path)[0], next(iter(reader))
            except Exception as error:
                return read(path)[0], type(error)

    ours, theirs = both("(1.0) can0 20000004#0102030405060708\n")  # controller problems: data to python-can
    assert (ours["id"][0], ours["flags"][0], ours["length"][0]) == (4, ERROR, 8)
    assert isinstance(theirs, can.Message)
    assert not theirs.is_error_frame
    ours, theirs = both(
        "(1.0) can0 20000080#0102030405060708\n"
    )  # bus error: python-can drops all but the time
    assert (ours["id"][0], ours["flags"][0], ours["length"][0]) == (0x80, ERROR, 8)
    assert isinstance(theirs, can.Message)
    assert (theirs.arbitration_id, theirs.channel, theirs.dlc) == (0, None, 0)
    ours, theirs = both("(1.0) can0 123#1122")  # half a line
    assert len(ours) == 0
    assert isinstance(theirs, can.Message)
    ours, theirs = both("(1.0) can0 123#1\n")  # half a byte
    assert len(ours) == 0
    assert isinstance(theirs, can.Message)
    ours, theirs = both("(1.0) can0 FFF#11\n")  # 12 bits
    assert len(ours) == 0
    assert isinstance(theirs, can.Message)
    ours, theirs = both("(1.0) can0 123#112233445566778899\n")  # 9 bytes in a classic frame
    assert len(ours) == 0
    assert isinstance(theirs, can.Message)
    ours, theirs = both("(1.0) can0 123#1122334455667788_9\n")  # a DLC code over 8
    assert ours["length"].tolist() == [8]
    assert theirs is ValueError
    ours, theirs = both("(9007199254.740993) can0 123#\n")
    assert ours["time_us"].tolist() == [2**53 + 1]
    assert isinstance(theirs, can.Message)
    assert round(theirs.timestamp * 1e6) != 2**53 + 1


def test_the_writer_takes_what_numpy_gives_it(tmp_path: Path) -> None:
    frames = random_frames(1000, SEED)
    writer = CandumpWriter(tmp_path / "x", ["a", "b", "c"])
    writer.write(frames[:0])
    writer.write(frames[::2])
    writer.close()
    to_file(tmp_path / "y", frames[::2].copy(), ["a", "b", "c"])
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_us": -1},
        {"time_us": 10**18 + 1},
        {"id": 0x800},
        {"id": 0x20000000, "flags": EXTENDED},
        {"length": 9},
        {"length": 65, "flags": FD},
        {"channel": 1},
        {"flags": FD | REMOTE},
        {"flags": ERROR_STATE},
    ],
)
def test_a_frame_that_candump_cannot_say(tmp_path: Path, wrong: dict[str, int]) -> None:
    frames = np.zeros(3, FRAME)
    for name, value in wrong.items():
        frames[name][1] = value
    with pytest.raises(LogError, match="no frame of a candump log"):
        to_file(tmp_path / "x", frames, ["a"])


@pytest.mark.parametrize("channels", [["a b"], [""], ["a\n"], [str(n) for n in range(257)]])
def test_channels_that_candump_cannot_name(tmp_path: Path, channels: list[str]) -> None:
    with pytest.raises(LogError, match="a candump log can't have"):
        CandumpWriter(tmp_path / "x", channels)


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="cannot be written: No such"):
        CandumpWriter(tmp_path / "no" / "such.log", ["a"])
    writer = CandumpWriter(Path("/dev/full"), ["a"])
    with pytest.raises(LogError, match="No space left"):
        writer.write(np.zeros(20_000, FRAME))
    writer.close()
    writer = CandumpWriter(Path("/dev/full"), ["a"])
    writer.write(np.zeros(1, FRAME))
    with pytest.raises(LogError, match="No space left"):
        writer.close()


def test_format_without_room() -> None:
    assert format(np.zeros(1, FRAME), [b"a"], bytearray(100)) == (0, 0)

"""Logs for the tests of edge.can.logs: frames of every kind, and files of every format."""

import math
import random
from pathlib import Path

import can
import numpy as np

from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, FRAME, OWN, REMOTE, Frames
from edge.can.logs import Log, open_log
from edge.can.messages import fill_frame
from edge.errors import LogError

SEED = 3
START_US = 1_700_000_000_000_000
FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)


def random_frames(count: int, seed: int, channels: int = 3) -> Frames:
    """Frames of every kind that a candump log can say."""
    rng = random.Random(seed)
    frames = np.zeros(count, FRAME)
    time_us = START_US
    for frame in frames:
        kind = rng.choice(("classic",) * 6 + ("fd",) * 3 + ("remote", "error"))
        flags = rng.choice((0, EXTENDED)) | rng.choice((0, 0, 0, OWN))
        length = rng.randrange(9)
        if kind == "fd":
            flags |= FD | rng.choice((0, BITRATE_SWITCH)) | rng.choice((0, ERROR_STATE))
            length = rng.choice(FD_LENGTHS)
        flags |= {"remote": REMOTE, "error": ERROR}.get(kind, 0)
        time_us += rng.randrange(5000)
        frame["time_us"], frame["channel"], frame["flags"] = time_us, rng.randrange(channels), flags
        frame["id"] = rng.randrange(1 << (29 if flags & (EXTENDED | ERROR) else 11))
        frame["length"] = length
        if not flags & REMOTE:
            frame["data"][:length] = np.frombuffer(rng.randbytes(length), np.uint8)
    return frames


def message_of(frame: np.void) -> can.Message:
    """A frame as python-can has it."""
    flags = int(frame["flags"])
    return can.Message(
        timestamp=int(frame["time_us"]) / 1e6,
        arbitration_id=int(frame["id"]),
        is_extended_id=bool(flags & EXTENDED),
        is_remote_frame=bool(flags & REMOTE),
        is_error_frame=bool(flags & ERROR),
        is_fd=bool(flags & FD),
        bitrate_switch=bool(flags & BITRATE_SWITCH),
        error_state_indicator=bool(flags & ERROR_STATE),
        is_rx=not flags & OWN,
        dlc=int(frame["length"]),
        data=None if flags & REMOTE else frame["data"][: frame["length"]].tobytes(),
        channel=int(frame["channel"]),
    )


def messages(count: int = 300) -> list[can.Message]:
    """What every format can hold: classic data frames of one bus, 10 ms apart."""
    rng = random.Random(SEED)
    made = []
    for n in range(count):
        extended = rng.random() < 0.5
        made.append(
            can.Message(
                timestamp=1_700_000_000 + n * 0.01,
                arbitration_id=rng.randrange(1 << (29 if extended else 11)),
                is_extended_id=extended,
                data=rng.randbytes(rng.randrange(1, 9)),
                channel=0,
                is_rx=True,
            )
        )
    return made


def write(path: Path, what: list[can.Message]) -> None:
    """Write with python-can, in the format of the path's suffix."""
    with can.Logger(path) as logger:
        for message in what:
            logger.on_message_received(message)


def text_log(kind: str, what: list[can.Message]) -> bytes:
    """Write a format that python-can does not know, as SavvyCAN does."""
    lines = {
        "gvret": ["Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8"],
        "crtd": ["1.0 CXX a comment"],
        "busmaster": ["***BUSMASTER Ver 2.4.0***", "***HEX***", "***SYSTEM MODE***"],
        "microchip": ["//---", "Microchip Technology Inc.", "CAN BUS Analyzer"],
    }[kind]
    for m in what:
        ms = round(m.timestamp * 1000) - START_US // 1000
        data = [f"{byte:02X}" for byte in m.data]
        if kind == "gvret":
            cells = [str(ms * 1000), f"{m.arbitration_id:08X}", str(m.is_extended_id).lower(), "Rx", "0"]
            lines.append(",".join([*cells, str(len(data)), *data, *["00"] * (8 - len(data))]))
        elif kind == "crtd":
            bits = 29 if m.is_extended_id else 11
            lines.append(
                f"{ms // 1000}.{ms % 1000:03d} 1R{bits} {m.arbitration_id:X}" + "".join(f" {b}" for b in data)
            )
        elif kind == "busmaster":
            clock = f"{ms // 3600000}:{ms // 60000 % 60}:{ms // 1000 % 60}:{ms % 1000:03d}"
            letter = "x" if m.is_extended_id else "s"
            lines.append(f"{clock} Rx 1 {m.arbitration_id:08X} {letter} {len(data)} {' '.join(data)} ")
        else:
            x = "x" if m.is_extended_id else ""
            lines.append(
                f"{ms};RX;0x{m.arbitration_id:08X}{x};{len(data)};" + "".join(f"0x{b};" for b in data)
            )
    return ("\n".join(lines) + "\n").encode()


def read(path: Path) -> tuple[Frames, str, Log | None]:
    """All frames, how it ended, and the log."""
    parts, trouble, log = [np.zeros(0, FRAME)], "", None
    try:
        log = open_log(path)
        for frames in log:  # list(log) would forget what came before the error
            parts.append(frames)
    except LogError as error:
        trouble = str(error)
    return np.concatenate(parts), trouble, log


def as_frames(what: list[can.Message]) -> tuple[Frames, list[str]]:
    """python-can's messages as a log gives them, and its channels."""
    frames, channels = np.zeros(len(what), FRAME), dict[str, int]()
    for frame, message in zip(frames, what, strict=True):
        assert math.isfinite(message.timestamp)
        name = "0" if message.channel is None else str(message.channel)
        number = channels.setdefault(name, len(channels))
        fill_frame(frame, message, round(message.timestamp * 1e6), number)
    return frames, list(channels)

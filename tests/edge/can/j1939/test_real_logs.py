"""Recorded logs of real trucks and boats, against what asammdf reads and a plain loop makes of it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.can.frames import Frames
from edge.can.j1939 import Diagnosed, Listener, decode_dm
from edge.can.logs import open_log

LOGS = "can/logs/css_canedge"
TRUCK = "FCBF0606/00003482/00000001-60B621D9.MF4"
CLAIMS = ("94C49784/00000005/00000002.MF4", "94C49784/00000005/00000017-6099D010.MF4")
FAULTS = "css_examples_other_asammdf-basics_input_00000001.MF4"


def independently(path: Path) -> list[tuple[int, bytes]]:
    """(29 bit identifier, data) of every extended frame, as asammdf reads them."""
    mdf = pytest.importorskip("asammdf").MDF
    out: list[tuple[float, int, bytes]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mdf(path) as log:
            for group, known in enumerate(log.groups):
                if "CAN_DataFrame.ID" not in [channel.name for channel in known.channels]:
                    continue
                ids, lengths, data, extended = (
                    log.get(f"CAN_DataFrame.{name}", group=group, raw=True)
                    for name in ("ID", "DataLength", "DataBytes", "IDE")
                )
                rows: Any = zip(
                    ids.timestamps, ids.samples, lengths.samples, data.samples, extended.samples, strict=True
                )
                out += [(t, int(i) & 0x1FFFFFFF, bytes(d[:n])) for t, i, n, d, e in rows if e]
    return [(frame_id, data) for _, frame_id, data in sorted(out, key=lambda row: row[0])]


def frames_of(path: Path) -> Frames:
    return np.concatenate(list(open_log(path)))


def listeners(frames: Frames) -> list[Listener]:
    return [Listener(int(n)) for n in np.unique(frames["channel"])]


def test_the_broadcasts_of_a_truck(shared_data: Path) -> None:
    path = shared_data / LOGS / TRUCK
    expected: list[tuple[int, bytes]] = []
    size, pgn, parts = 0, 0, b""
    for frame_id, data in independently(path):
        if frame_id == 0x1CECFF00:
            size, pgn, parts = data[1] | data[2] << 8, data[5] | data[6] << 8, b""
        elif frame_id == 0x1CEBFF00:
            parts += data[1:]
            if len(parts) >= size:
                expected.append((7 << 26 | pgn << 8, parts[:size]))
    assert len(expected) == 16
    frames = frames_of(path)
    heard = [w for one in listeners(frames) for w in one.feed(frames)]
    assert [(w.id, w.payload) for w in heard] == expected
    assert {w.id >> 8 & 0xFFFF for w in heard} == {
        0xFEE3,
        0xFEEC,
    }  # engine configuration, vehicle identification


@pytest.mark.parametrize("log", CLAIMS)
def test_the_addresses_of_a_boat(shared_data: Path, log: str) -> None:
    path = shared_data / LOGS / log
    claims = [
        (frame_id & 0xFF, int.from_bytes(data, "little"))
        for frame_id, data in independently(path)
        if frame_id >> 16 & 0x3FF == 0xEE
    ]
    assert len(claims) >= 10
    frames = frames_of(path)
    found = {}
    for one in listeners(frames):
        one.feed(frames)
        found |= {address: name.value for address, name in one.names.items()}
    last = {name: address for address, name in claims}  # where each NAME claimed last
    assert found
    assert all(last[name] == address for address, name in found.items())
    assert set(found) == set(last.values())


def test_the_faults_of_a_vehicle(shared_data: Path) -> None:
    path = shared_data / LOGS / FAULTS
    expected = [data for frame_id, data in independently(path) if frame_id >> 8 & 0x3FFFF == 0xFECA]
    assert expected == [bytes.fromhex("f3ff00000000ffff")] * 10
    frames = frames_of(path)
    heard: list[Diagnosed] = []
    for one in listeners(frames):
        one.feed(frames)
        heard += one.diagnosed
    assert [d.dm for d in heard] == [decode_dm(data) for data in expected]
    assert {(d.source, d.stored, d.dm.dtcs) for d in heard} == {(0x2F, False, ())}
    assert heard[0].dm.lamps == {
        "MalfunctionIndicatorLamp": None,
        "RedStopLamp": None,
        "AmberWarningLamp": 0,
        "ProtectLamp": None,
    }

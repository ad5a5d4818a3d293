"""The decoder gives what cantools gives, and refuses what it should, whole."""

import numpy as np
import pytest

from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import EXTENDED, FRAME, Frames
from edge.signals.catalogue import Catalogue, load_catalogue
from sim_bus.ecus import crc8_sae_j1850

SEED = 7


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue([(name, name) for name in ("bms", "inverter", "vehicle")])


def frame(frame_id: int, data: bytes, channel: int = 0, flags: int = 0) -> Frames:
    out = np.zeros(1, FRAME)
    out["id"], out["channel"], out["flags"], out["length"] = frame_id, channel, flags, len(data)
    out["data"][0, : len(data)] = np.frombuffer(data, np.uint8)
    return out


def status(counter: int, spoil: int = 0) -> bytes:
    body = bytes([0x10, 0x17, 0xF6, 0xFF, 100, 0x13, counter])
    return body + bytes([crc8_sae_j1850(body) ^ spoil])


def test_refusals_change_nothing_and_are_counted(catalogue: Catalogue) -> None:
    decoder = Decoder.from_catalogue(catalogue)
    latest, counts = LatestTable(len(decoder.slots)), Counts(3)
    slot = decoder.slot(0, "BMS_PackStatus", "PackVoltage")
    decoder.update(frame(0x100, status(1)), latest, counts)
    assert latest.value[slot] == pytest.approx(590.4)
    bad = [
        frame(0x100, status(2, spoil=1)),
        frame(0x100, status(1)),
        frame(0x100, status(2)[:7]),
        frame(0x200, bytes([200]) + bytes(7)),
        frame(0x7FF, bytes(8)),
        frame(0x100, status(3), flags=EXTENDED),
    ]
    for one in bad:
        one["time_us"] = 99
        decoder.update(one, latest, counts)
    assert latest.time_us.max() == 0
    total = counts.total()
    assert [total[k] for k in ("bad_checksum", "repeated_counter", "too_short", "bad_mux", "unknown")] == [
        1,
        1,
        1,
        1,
        2,
    ]
    assert total["received"] == total["decoded"] + total["unknown"] + total["refused"] == 7


def test_garbage_frames_are_all_accounted_for(catalogue: Catalogue) -> None:
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    frames = np.frombuffer(rng.bytes(FRAME.itemsize * 20_000), FRAME).copy()
    frames["length"] %= 65
    frames["channel"] %= 4
    frames["id"] &= 0x7FF
    decoder = Decoder.from_catalogue(catalogue)
    latest, counts = LatestTable(len(decoder.slots)), Counts(3)
    decoder.update(frames, latest, counts)
    total = counts.total()
    parts = ("decoded", "unknown", "refused", "error_frames", "remote_frames")
    assert total["received"] == sum(total[p] for p in parts) == int((frames["channel"] < 3).sum())
    heard = latest.state != 0
    assert np.isfinite(latest.value[heard]).all()
    assert np.isnan(latest.value[~heard]).all()


def test_j1939_matches_by_pgn_whatever_priority(catalogue: Catalogue) -> None:
    decoder = Decoder.from_catalogue(catalogue)
    slot = decoder.slot(2, "CCVS1", "WheelBasedVehicleSpeed")
    latest, counts = LatestTable(len(decoder.slots)), Counts(3)
    source = decoder.slots[slot].source
    assert source is not None
    payload = bytes([0, 0, 30, 0, 0, 0, 0, 0])
    decoder.update(frame(0x0CFEF100 | source, payload, 2, EXTENDED), latest, counts)
    decoder.update(frame(0x18FEF100 | source, payload, 2, EXTENDED), latest, counts)
    assert latest.value[slot] == 30.0
    assert counts.total()["decoded"] == 2

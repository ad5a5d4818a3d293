"""The decoder gives what cantools gives, and refuses what it should, whole."""

import random

import numpy as np
import pytest
from cantools.database.errors import DecodeError

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


def test_equal_to_cantools_on_random_payloads(catalogue: Catalogue) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    decoder = Decoder([(c.number, c.database, {}) for c in catalogue.channels])
    counts = Counts(3)
    compared = 0
    for channel in catalogue.channels:
        for message in channel.database.messages:
            for _ in range(150):
                data = rng.randbytes(message.length)
                try:
                    wanted = message.decode(data)
                except DecodeError:
                    wanted = None
                flags = EXTENDED if message.is_extended_frame else 0
                got = decoder._decode_one(frame(message.frame_id, data, channel.number, flags), counts, False)
                assert isinstance(wanted, dict | None)
                plain = wanted and {k: v if isinstance(v, int | float) else str(v) for k, v in wanted.items()}
                assert (got[0].signals if got else None) == plain, (message.name, data.hex())
                compared += plain is not None
    assert compared > 2000
    assert counts.total()["bad_mux"] > 100


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
    assert np.isfinite(latest.value).all()


def test_j1939_matches_by_pgn_whatever_priority_and_source(catalogue: Catalogue) -> None:
    decoder = Decoder.from_catalogue(catalogue)
    latest, counts = LatestTable(len(decoder.slots)), Counts(3)
    decoder.update(frame(0x0CFEF1AA, bytes([0, 0, 30, 0, 0, 0, 0, 0]), 2, EXTENDED), latest, counts)
    assert latest.value[decoder.slot(2, "CCVS1", "WheelBasedVehicleSpeed")] == 30.0

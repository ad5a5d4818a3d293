"""Random frames through decoder and J1939: no crash, no value that is no number, nothing half applied.

Ten million frames in the campaign, a slice otherwise. Every chunk is decoded three ways: at once into the
table of latest values, in pieces into another, and as events applied one by one to a third; they must agree,
and the ledger must add up. Run it over the kernels with sanitizers: `scripts/sanitize .venv/bin tests/fuzz`.
"""

import os
from pathlib import Path

import cantools
import numpy as np
import pytest

from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import ERROR, EXTENDED, FD, FRAME, REMOTE, Frames
from edge.signals import validity
from edge.signals.catalogue import load_catalogue

CAMPAIGN = os.environ.get("AYAZ_CAMPAIGN") == "1"
SEED = int(os.environ.get("AYAZ_SEED", "1"))
FRAMES = 10_000_000 if CAMPAIGN else 100_000
CHUNK = 5_000
PAYLOADS = 4  # kinds: random, zeros, ones, few bits set
TRANSFERS = 20  # deliberate ones in a chunk
TRANSPORTED_PGNS = (0xFEF1, 0xFF14, 0xFECA, 0xFE00)  # of fuzz.dbc, of vehicle.dbc, DM1, of nobody
pytestmark = pytest.mark.campaign


def random_frames(random: np.random.Generator, ids: np.ndarray, start_us: int, channels: int) -> Frames:
    """Frames that mean to hurt: known ids in every length, J1939 transport, garbage, flags that don't fit."""
    n = CHUNK
    frames = np.zeros(n, FRAME)
    kind = random.integers(0, 10, n)
    frames["id"] = random.integers(0, 1 << 29, n)
    frames["flags"] = random.integers(0, 2, n) * EXTENDED
    known = kind < 6
    frames["id"][known] = random.choice(ids & 0x1FFFFFFF, known.sum())
    frames["flags"][known] = EXTENDED * (frames["id"][known] > 0x7FF)
    transport = (kind == 6) | (kind == 7)
    pdu = random.choice([0xECFF, 0xEBFF, 0xEC21, 0xEB21, 0xEEFF, 0xFECA], transport.sum())
    frames["id"][transport] = 0x18000000 | pdu.astype(np.uint32) << 8 | random.integers(0, 4, transport.sum())
    frames["flags"][transport] = EXTENDED
    frames["flags"][random.random(n) < 0.01] ^= EXTENDED
    frames["flags"][random.random(n) < 0.01] |= REMOTE
    frames["flags"][random.random(n) < 0.01] |= ERROR
    frames["channel"] = random.integers(0, channels + (random.random(n) < 0.01))
    frames["length"] = random.choice([0, 1, 7, 8, 8, 8, 8, 12, 16, 64], n)
    frames["flags"][frames["length"] > 8] |= FD
    payload = random.integers(0, 256, (n, 64), dtype=np.uint8)
    payload_kind = random.integers(0, PAYLOADS, n)
    payload[payload_kind == 1] = 0
    payload[payload_kind == 2] = 0xFF
    payload[payload_kind == 3] &= (
        random.integers(0, 256, ((payload_kind == 3).sum(), 64), dtype=np.uint8) & 0x11
    )
    few = np.flatnonzero(transport)  # transport that gets somewhere: small numbers where numbers are
    payload[few, 0] = random.choice([16, 17, 19, 32, 255, 1, 2, 3, 4], len(few))
    payload[few, 1] = random.integers(0, 30, len(few))
    payload[few, 2] = 0
    payload[few, 3] = random.integers(0, 6, len(few))
    payload[np.arange(64) >= frames["length"][:, None]] = 0
    frames["data"] = payload
    for start in random.integers(0, n - 8, TRANSFERS).tolist():
        transfer(random, frames[start : start + 6], channels - 1)
    steps = random.integers(0, 2_000, n) + (random.random(n) < 0.001) * 5_000_000
    frames["time_us"] = start_us + np.cumsum(steps)
    return frames


def transfer(random: np.random.Generator, frames: Frames, channel: int) -> None:
    """A broadcast of five packets in the place of six frames; one time in four a packet is spoiled."""
    source, pgn = int(random.integers(0, 40)), int(random.choice(TRANSPORTED_PGNS))
    frames["channel"], frames["length"] = channel, 8
    frames["flags"] = EXTENDED
    frames["id"] = 0x1CEBFF00 | source
    frames["id"][0] = 0x1CECFF00 | source
    frames["data"] = 0
    frames["data"][:, 1:8] = random.integers(0, 256, (6, 7))
    frames["data"][:, 0] = np.arange(6)
    frames["data"][0, :8] = [32, 33, 0, 5, 255, *pgn.to_bytes(3, "little")]
    if random.random() < 0.25:
        frames["data"][random.integers(1, 6), 0] = random.integers(0, 256)


def decoders() -> dict[str, tuple[Decoder, Decoder, Decoder]]:
    """Three decoders of each kind: of the buses that we ship with their maps, and of every kind of signal."""
    catalogue = load_catalogue([(name, name) for name in ("bms", "inverter", "vehicle")])
    database = cantools.database.load_file(Path(__file__).parent / "fuzz.dbc")
    for message in database.messages:
        if message.is_extended_frame:
            message.protocol = "j1939"

    def plain() -> Decoder:
        return Decoder([(0, database, {})])

    return {
        "shipped": tuple(Decoder.from_catalogue(catalogue) for _ in range(3)),  # type: ignore[dict-item]
        "every kind": (plain(), plain(), plain()),
    }


def ids_of(name: str) -> np.ndarray:
    folder = Path(__file__).parent.parent.parent / "dbc"
    paths = folder.glob("*.dbc") if name == "shipped" else [Path(__file__).parent / "fuzz.dbc"]
    return np.array(
        [m.frame_id for path in sorted(paths) for m in cantools.database.load_file(path).messages]
    )


@pytest.mark.parametrize("name", ["shipped", "every kind"])
def test_random_frames(name: str) -> None:
    print(f"seed {SEED}, {FRAMES:,} frames")
    random = np.random.default_rng(SEED)
    channels = 3 if name == "shipped" else 1
    at_once, in_pieces, one_by_one = decoders()[name]
    ids = ids_of(name)
    tables = [LatestTable(len(at_once.slots)) for _ in range(3)]
    counts = [Counts(channels) for _ in range(3)]
    start_us = 0
    for _ in range(FRAMES // CHUNK):
        frames = random_frames(random, ids, start_us, channels)
        start_us = int(frames["time_us"][-1])
        at_once.update(frames, tables[0], counts[0])
        for piece in np.split(frames, np.sort(random.integers(0, CHUNK, 3))):
            in_pieces.update(piece, tables[1], counts[1])
        apply_events(one_by_one, frames, tables[2], counts[2])
        check(at_once, tables, counts)
    total = counts[0].total()
    print(total)
    assert total["decoded"] > FRAMES / 100
    assert total["refused"] > 0
    assert total["unknown"] > 0
    assert total["messages_decoded"] > 0
    assert total["messages_unknown"] > 0


def apply_events(decoder: Decoder, frames: Frames, table: LatestTable, counts: Counts) -> None:
    """The textbook way to a table of latest values: one event after another."""
    events = decoder.events(frames, counts)
    table.grow(len(decoder.slots))
    for frame, slot, raw, value, state in zip(*(column.tolist() for column in events), strict=True):
        table.time_us[slot], table.raw[slot], table.state[slot] = frames["time_us"][frame], raw, state
        if state == validity.GOOD:
            table.value[slot] = value


def check(decoder: Decoder, tables: list[LatestTable], counts: list[Counts]) -> None:
    for other in (1, 2):
        for column in ("raw", "value", "time_us", "state"):
            np.testing.assert_array_equal(
                getattr(tables[0], column), getattr(tables[other], column), err_msg=f"{column}, way {other}"
            )
        np.testing.assert_array_equal(counts[0].table, counts[other].table)
    assert np.isfinite(tables[0].value[tables[0].state == validity.GOOD]).all()
    for number in range(len(counts[0].table)):
        c = counts[0].of_channel(number)
        seen = ("decoded", "unknown", "refused", "error_frames", "remote_frames", "transport")
        assert c["received"] == sum(c[name] for name in seen)
        whole = ("messages_decoded", "messages_unknown", "messages_refused")
        assert c["messages"] == sum(c[name] for name in whole)

"""What the ECUs say by J1939, read by the listener of the edge: names, trouble, long messages one after the other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge.can.frames import Frames
from edge.can.j1939 import Listener
from edge.can.j1939.diagnostics import decode_dm
from edge.can.j1939.identifier import TP_CM, TP_DT, pgn_of
from sim_bus.ecus import Ecus
from sim_bus.ecus.j1939 import BAM_GAP_US, CLAIM_WAIT_US, MOST_CODES, MOST_OCCURRENCES, Transport, dm1
from sim_bus.streams import Streams
from tests.sim_bus.ecus.test_frames import BUSES, SEED, STEADY, readings

VEHICLE = 2
SOURCE = 0x18FECAF3
COUNTERS = BUSES[VEHICLE].get_message_by_name("PROP_HvessCounters").frame_id
CODES = ((520_194, 18), (520_192, 1), (520_193, 0))


def heard(seed: int, seconds: int = 4, trouble: tuple[tuple[int, int], ...] = ()) -> tuple[Frames, Listener]:
    rng, ecus, listener = np.random.default_rng(SEED), Ecus(STEADY, Streams(seed)), Listener(VEHICLE)
    parts = [ecus.frames(dataclasses.replace(readings(n, rng), trouble=trouble)) for n in range(seconds)]
    frames = np.concatenate(parts)
    listener.feed(frames)
    return frames[frames["channel"] == VEHICLE], listener


def test_the_names_are_no_makers_and_the_seeds_own() -> None:
    frames, listener = heard(SEED)
    assert set(listener.names) == {int(i) & 0xFF for i in frames["id"]}
    assert listener.addresses.contended == 0
    for name in listener.names.values():
        assert (name.manufacturer_code, name.function) == (0x7FF, 0xFF)
        assert (name.vehicle_system, name.industry_group, name.arbitrary_address_capable) == (0, 1, 0)
        assert name.identity_number > 0
    names = list(listener.names.values())
    assert len({n.identity_number for n in names}) == len({n.ecu_instance for n in names}) == len(names)
    assert heard(SEED)[1].names == listener.names
    other = heard(SEED + 1)[1].names
    assert all(other[a].identity_number != n.identity_number for a, n in listener.names.items())


def test_who_has_claimed_waits_before_it_speaks() -> None:
    frames, _ = heard(SEED)
    for address in {int(i) & 0xFF for i in frames["id"]}:
        mine = frames[(frames["id"] & 0xFF) == address]
        assert int(mine["time_us"][1]) - int(mine["time_us"][0]) >= CLAIM_WAIT_US


def test_packets_are_50_to_200_ms_apart() -> None:
    """J1939-21; also where several long messages of one source wait for each other."""
    frames, listener = heard(SEED, 20, CODES)
    assert listener.transport.broken == 0
    long = frames[np.isin([pgn_of(int(i)) for i in frames["id"]], (TP_CM, TP_DT))]
    both: set[int] = set()
    for address in {int(i) & 0xFF for i in long["id"]}:
        mine = long[(long["id"] & 0xFF) == address]
        announces = np.array([pgn_of(int(i)) == TP_CM for i in mine["id"]])
        gaps = np.diff(mine["time_us"].astype(np.int64))
        assert gaps.min() >= 50_000
        assert gaps[~announces[1:]].max() <= 200_000
        both |= {int.from_bytes(f["data"][5:8].tobytes(), "little") for f in mine[announces]}
    assert both == {0xFECA, pgn_of(COUNTERS)}


def test_trouble_counts_how_often_it_came() -> None:
    rng, ecus, counts = np.random.default_rng(SEED), Ecus(STEADY, Streams(SEED)), []
    for n in range(12):
        code = CODES[:1] if n % 4 < 2 else ()
        frames = ecus.frames(dataclasses.replace(readings(n, rng), trouble=code))
        for f in frames[(frames["channel"] == VEHICLE) & ((frames["id"] >> 8 & 0xFFFF) == 0xFECA)]:
            dm = decode_dm(f["data"][:8].tobytes())
            assert dm is not None
            counts += [d.occurrence_count for d in dm.dtcs]
    assert sorted(set(counts)) == [1, 2, 3]
    assert counts == sorted(counts)


def test_dm1_of_very_much_trouble() -> None:
    dm = decode_dm(dm1([(520_192 + n, n % 32, 10_000) for n in range(50)]))
    assert dm is not None
    assert [(d.spn, d.fmi) for d in dm.dtcs] == [(520_192 + n, n % 32) for n in range(MOST_CODES)]
    assert {d.occurrence_count for d in dm.dtcs} == {MOST_OCCURRENCES}
    assert not any(d.old_layout for d in dm.dtcs)


def test_one_source_sends_one_long_message_at_a_time_and_gives_up_what_is_late() -> None:
    transport, listener = Transport(), Listener(VEHICLE)
    for n in range(4):  # 60 ms a packet, four packets: the third waits for 480 ms, the fourth would for 720
        transport.add_long(1000, 0, VEHICLE, SOURCE, bytes([n]) * 20, 500_000)
    transport.add_long(1000, 1, VEHICLE, SOURCE + 1, bytes(9), 500_000)
    frames = transport.due(10_000_000)
    frames = frames[np.argsort(frames["time_us"], kind="stable")]
    whole = listener.feed(frames)
    assert listener.transport.broken == 0
    assert [w.payload[0] for w in whole if w.id & 0xFF == 0xF3] == [0, 1, 2]
    other = frames[(frames["id"] & 0xFF) == 0xF4]
    assert other["time_us"].tolist() == [1000, 1000 + BAM_GAP_US, 1000 + 2 * BAM_GAP_US], "waits for nobody"
    assert len(transport.due(1 << 60)) == 0


@pytest.mark.parametrize("stops", [0, 1])
def test_a_node_that_stops_takes_only_its_own_words_along(stops: int) -> None:
    transport = Transport()
    for node in (0, 1):
        transport.add_long(0, node, VEHICLE, SOURCE + node, bytes(20), 500_000)
    transport.drop(stops, 2 * BAM_GAP_US)
    frames = transport.due(10_000_000)
    sent = [int(((frames["id"] & 0xFF) == 0xF3 + node).sum()) for node in (0, 1)]
    assert sent[stops] == 2
    assert sent[1 - stops] == 4
    transport.add_long(3 * BAM_GAP_US, stops, VEHICLE, SOURCE + stops, bytes(20), 500_000)
    assert int(transport.due(10_000_000)["time_us"].min()) == 3 * BAM_GAP_US, "its line is free again"

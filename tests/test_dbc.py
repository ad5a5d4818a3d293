"""The databases, their maps and the code agree: a bus of two strings of 176 cells that we speak whole."""

from collections import Counter
from pathlib import Path

import cantools
import pytest

from edge.can.decoder import Decoder
from edge.signals.catalogue import Catalogue, load_catalogue

ROOT = Path(__file__).parent.parent
BITRATES = {"bms": 500_000, "inverter": 500_000, "vehicle": 250_000}
HVESS = {"HVESSD1": 61584, "HVESSD2": 61585, "HVESSD3": 61586, "HVESSD6": 61589}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue([(name, name) for name in BITRATES])


def test_every_cell_and_sensor_has_its_role_once(catalogue: Catalogue) -> None:
    places = Counter((s.role, s.string, s.index) for s in catalogue.signals if s.role)
    assert max(places.values()) == 1
    for role, count in (("cell_voltage", 176), ("cell_temp", 44), ("balancing", 176)):
        for string in (1, 2):
            assert sorted(i for r, s, i in places if (r, s) == (role, string)) == list(range(1, count + 1))
    roles = {role for role, _, _ in places}
    assert roles >= {"pack_serial", "cell_count"}
    assert {"pack_current", "string_current", "bms_soc", "pack_voltage", "contactors", "insulation"} <= roles


def test_every_mapped_signal_is_decoded(catalogue: Catalogue) -> None:
    decoder = Decoder.from_catalogue(catalogue)
    slots = [decoder.slot(s.channel, s.message, s.signal) for s in catalogue.signals]
    assert len(set(slots)) == len(slots) > 800


def test_protected_messages_have_what_protects_them(catalogue: Catalogue) -> None:
    protected = [rule for rule in catalogue.messages if rule.counter or rule.checksum]
    assert len(protected) >= 5
    for rule in catalogue.messages:
        message = catalogue.channels[rule.channel].database.get_message_by_name(rule.message)
        names = {s.name for s in message.signals}
        assert ("AliveCounter" in names) == (rule.counter is not None), rule.message
        assert ("Checksum" in names) == (rule.checksum is not None), rule.message
        assert rule.timeout_ms > rule.period_ms > 0


def test_each_number_can_say_that_it_is_not_available(catalogue: Catalogue) -> None:
    """All ones, of a signed number the one without an opposite: beyond its limits, and told by the map. J1939 has its own."""
    checked = 0
    for s in catalogue.signals:
        message = catalogue.channels[s.channel].database.get_message_by_name(s.message)
        signal = message.get_signal_by_name(s.signal)
        if message.is_extended_frame or signal.length == 1:
            continue
        raw = -(1 << signal.length - 1) if signal.is_signed else (1 << signal.length) - 1
        assert s.not_available == (raw, raw), s.signal
        if not signal.choices:
            low, high = ((v - signal.offset) / signal.scale for v in (signal.minimum, signal.maximum))
            assert not low - 0.5 <= raw <= high + 0.5, s.signal
        checked += 1
    assert checked > 450


def test_messages_come_as_often_as_the_map_says(catalogue: Catalogue) -> None:
    for rule in catalogue.messages:
        message = catalogue.channels[rule.channel].database.get_message_by_name(rule.message)
        assert message.cycle_time == rule.period_ms, rule.message


def test_the_battery_messages_of_j1939(catalogue: Catalogue) -> None:
    database = catalogue.channels[2].database
    pgns = {m.frame_id >> 8 & 0x3FFFF: m for m in database.messages}
    assert set(HVESS.values()) <= set(pgns)
    assert all(m.is_extended_frame for m in database.messages)
    assert any(m.length > 8 for m in database.messages)
    for pgn in HVESS.values():
        assert pgns[pgn].comment
        assert "source" in str(pgns[pgn].comment).lower()


@pytest.mark.parametrize("name", BITRATES)
def test_no_bus_is_overloaded(name: str) -> None:
    """Worst case bits of a frame with stuffing, after K. Tindell and A. Burns (1994)."""
    load = 0.0
    for message in cantools.database.load_file(ROOT / f"dbc/{name}.dbc").messages:  # type: ignore[union-attr]
        frames = max(1, -(-message.length // 7) + 1) if message.length > 8 else 1
        data = 8 * min(message.length, 8)
        head = 54 if message.is_extended_frame else 34
        bits = head + data + (head + data - 1) // 4 + 13
        load += frames * bits / ((message.cycle_time or 1000) / 1000)
    assert 0 < load < 0.6 * BITRATES[name]

"""DM1 and DM2 (SAE J1939-73)."""

import random

import pytest

from edge.can.j1939 import Dtc, Listener, decode_dm, flat_signals
from tests.edge.can.j1939.traffic import Bus

BUS = Bus()


def dtc(spn: int, fmi: int, count: int, method: int = 0) -> bytes:
    """A trouble code, from the bits of the standard: the SPN's upper three above the FMI."""
    bits = f"{method:01b}{count:07b}" + f"{spn >> 16:03b}{fmi:05b}" + f"{spn >> 8 & 255:08b}{spn & 255:08b}"
    return int(bits, 2).to_bytes(4, "little")


def test_lamps_flashes_and_a_code() -> None:
    dm = decode_dm(bytes([0b01_00_11_00, 0b00_11_11_01]) + dtc(0x7ABCD, 17, 5) + b"\xff\xff")
    assert dm is not None
    assert dm.lamps == {
        "MalfunctionIndicatorLamp": 1,
        "RedStopLamp": 0,
        "AmberWarningLamp": None,
        "ProtectLamp": 0,
    }
    assert dm.flashes["MalfunctionIndicatorLamp"] == 0
    assert dm.flashes["RedStopLamp"] is None
    assert dm.flashes["ProtectLamp"] == 1
    assert dm.dtcs == (Dtc(0x7ABCD, 17, 5, False),)


@pytest.mark.parametrize("filling", [bytes(4), b"\xff" * 4, dtc(0, 0, 127, method=1), dtc(0x7FFFF, 31, 0)])
def test_no_fault_is_no_code(filling: bytes) -> None:
    dm = decode_dm(b"\0\xff" + filling + b"\xff\xff")
    assert dm is not None
    assert dm.dtcs == ()
    assert flat_signals(dm)["ActiveDtcCount"] == 0


def test_many_codes_of_a_transported_message() -> None:
    rng = random.Random(3)
    sent = [(rng.randrange(1, 1 << 19), rng.randrange(31), rng.randrange(1, 127)) for _ in range(30)]
    dm = decode_dm(b"\0\xff" + b"".join(dtc(*code) for code in sent) + b"\xff" * 3)
    assert dm is not None
    assert [code[:3] for code in dm.dtcs] == sent
    flat = flat_signals(dm)
    assert flat["ActiveDtcCount"] == 30
    assert (flat["Dtc20.Spn"], flat["Dtc20.Fmi"], flat["Dtc20.OccurrenceCount"]) == sent[19]
    assert "Dtc21.Spn" not in flat


def test_flat_signals_have_always_the_same_names() -> None:
    """A code that is gone must not stay where it was: it becomes "no value"."""
    without, with_one = decode_dm(bytes(8)), decode_dm(b"\x04\xff" + dtc(100, 1, 2, method=1) + b"\xff\xff")
    assert without is not None
    assert with_one is not None
    assert list(flat_signals(without)) == list(flat_signals(with_one))
    assert flat_signals(without)["Dtc1.Spn"] is None
    flat = flat_signals(with_one)
    assert (flat["AmberWarningLamp"], flat["AmberWarningLampFlash"]) == (1, None)
    assert [flat[f"Dtc1.{n}"] for n in ("Spn", "Fmi", "OccurrenceCount", "OldLayout")] == [100, 1, 2, 1]
    stored = flat_signals(with_one, stored=True)
    assert stored["PreviouslyActiveDtcCount"] == 1
    assert "ActiveDtcCount" not in stored


def test_the_old_layouts_of_an_spn() -> None:
    """One SPN written by each version's rule is what that version reads (SAE J1939-73, SPN 1706)."""
    spn = 0b101_0110_0011_1010_0101
    upper, lower = spn >> 3, spn & 7
    layouts = {1: upper.to_bytes(2, "big"), 2: upper.to_bytes(2, "little")}
    for version, two in layouts.items():
        dm = decode_dm(b"\0\xff" + two + bytes([lower << 5 | 4, 0x81]))
        assert dm is not None
        (code,) = dm.dtcs
        assert (code.spn_of_version(version), code.fmi, code.occurrence_count) == (spn, 4, 1)
        assert code.old_layout
    assert Dtc(spn, 4, 1, True).spn_of_version(3) == spn
    with pytest.raises(ValueError, match="1 to 4"):
        Dtc(spn, 4, 1, True).spn_of_version(5)


@pytest.mark.parametrize("stored_faults", [False, True])
def test_a_listener_hears_dm1_and_where_asked_dm2(stored_faults: bool) -> None:
    long = b"\x40\xff" + dtc(100, 1, 2) + dtc(200, 3, 4)
    frames = BUS.frames(
        [
            BUS.frame(0xFE, 0xCA, 3, b"\x04\xff" + dtc(500, 5, 6) + b"\xff\xff"),
            BUS.frame(0xFE, 0xCB, 3, bytes(8)),
            *BUS.bam(long, source=7, pgn=0xFECA),
            *BUS.bam(long, source=7, pgn=0xFECB),
            BUS.frame(0xFE, 0xCA, 3, b"\0"),
        ]
    )
    listener = Listener(0, stored_faults=stored_faults)
    whole = listener.feed(frames)
    assert [w.payload for w in whole] == [long, long]
    heard = [(d.frame, d.source, d.stored, [c.spn for c in d.dm.dtcs]) for d in listener.diagnosed]
    dm2 = [(1, 3, True, []), (7, 7, True, [100, 200])] if stored_faults else []
    assert heard == sorted([(0, 3, False, [500]), (4, 7, False, [100, 200]), *dm2])
    assert all(d.time_us == frames["time_us"][d.frame] for d in listener.diagnosed)
    assert listener.bad_diagnostics == 1
    listener.feed(frames[:0])
    assert listener.diagnosed == []


def test_an_old_layout_is_marked_and_a_count_of_127_is_none() -> None:
    dm = decode_dm(b"\0\xff" + dtc(100, 1, 127, method=1))
    assert dm is not None
    assert dm.dtcs == (Dtc(100, 1, None, True),)


@pytest.mark.parametrize("length", range(64))
def test_any_bytes(length: int) -> None:
    payload = random.Random(length).randbytes(length)
    dm = decode_dm(payload)
    assert (dm is None) == (length < 2)
    if dm is not None:
        assert len(dm.dtcs) <= (length - 2) // 4
        assert all(0 <= code.spn < 1 << 19 and 0 <= code.fmi < 32 for code in dm.dtcs)

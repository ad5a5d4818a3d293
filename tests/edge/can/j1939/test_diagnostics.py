"""DM1 and DM2 (SAE J1939-73)."""

import random

import pytest

from edge.can.j1939 import Dtc, decode_dm, flat_signals


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


@pytest.mark.parametrize("filling", [bytes(4), b"\xff" * 4])
def test_no_fault_is_no_code(filling: bytes) -> None:
    dm = decode_dm(b"\0\xff" + filling + b"\xff\xff")
    assert dm is not None
    assert dm.dtcs == ()
    assert flat_signals(dm)["DtcCount"] == 0


def test_many_codes_of_a_transported_message() -> None:
    rng = random.Random(3)
    sent = [(rng.randrange(1, 1 << 19), rng.randrange(31), rng.randrange(1, 127)) for _ in range(30)]
    dm = decode_dm(b"\0\xff" + b"".join(dtc(*code) for code in sent) + b"\xff" * 3)
    assert dm is not None
    assert [code[:3] for code in dm.dtcs] == sent
    flat = flat_signals(dm)
    assert flat["DtcCount"] == 30
    assert (flat["Dtc20.Spn"], flat["Dtc20.Fmi"], flat["Dtc20.OccurrenceCount"]) == sent[19]
    assert "Dtc21.Spn" not in flat


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

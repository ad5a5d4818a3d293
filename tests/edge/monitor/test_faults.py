"""Trouble codes and names: in one frame, through transport, from several sources, and garbage."""

import numpy as np

from edge.can.frames import EXTENDED, FRAME, REMOTE, Frames
from edge.can.j1939 import Name
from edge.monitor.faults import Faults

DM1_OF = 0x18FECA00
LAMPS = bytes([0b00000100, 0xFF])
CODE = bytes([0x9E, 0x02, 0x03, 0x05])  # SPN 670, FMI 3, five times


def frames(*messages: tuple[int, bytes], channel: int = 0, flags: int = EXTENDED) -> Frames:
    made = np.zeros(len(messages), FRAME)
    for n, (frame_id, data) in enumerate(messages):
        made[n]["time_us"], made[n]["id"], made[n]["length"] = 1000 * (n + 1), frame_id, len(data)
        made[n]["data"][: len(data)] = np.frombuffer(data, np.uint8)
    made["channel"], made["flags"] = channel, flags
    return made


def broadcast(source: int, payload: bytes) -> list[tuple[int, bytes]]:
    """A BAM of a DM1."""
    packets = -(-len(payload) // 7)
    head = bytes([32, len(payload) & 0xFF, len(payload) >> 8, packets, 0xFF, 0xCA, 0xFE, 0x00])
    parts = [payload[7 * n : 7 * n + 7].ljust(7, b"\xff") for n in range(packets)]
    packed = [(0x18EBFF00 | source, bytes([n]) + part) for n, part in enumerate(parts, 1)]
    return [(0x18ECFF00 | source, head), *packed]


def test_one_frame_and_transport() -> None:
    faults = Faults([0])
    long = LAMPS + CODE + bytes([0x01, 0x01, 0x01, 0x7F])
    faults.take(frames((DM1_OF | 0x17, LAMPS + CODE + b"\xff\xff"), *broadcast(0x21, long)))
    picture = faults.picture()
    assert picture.codes == 3
    one, two = picture.dms
    assert (one.source, one.time_us, one.dm.dtcs[0][:3]) == (0x17, 1000, (670, 3, 5))
    assert (two.source, two.time_us, len(two.dm.dtcs)) == (0x21, 4000, 2)
    assert two.dm.dtcs[1].occurrence_count is None
    assert one.dm.lamps["AmberWarningLamp"] == 1


def test_the_newest_is_what_is_active() -> None:
    faults = Faults([0])
    healed = LAMPS[:1] + b"\xff\0\0\0\0\xff\xff"
    faults.take(frames((DM1_OF | 1, LAMPS + CODE), (DM1_OF | 1, healed)))
    assert faults.picture().codes == 0
    faults.take(frames(*broadcast(1, LAMPS + CODE + CODE), (DM1_OF | 1, healed)))
    assert faults.picture().codes == 0
    faults.take(frames((DM1_OF | 1, healed), *broadcast(1, LAMPS + CODE + CODE)))
    assert faults.picture().codes == 2


def test_others_are_passed_over() -> None:
    faults = Faults([1])
    good = (DM1_OF, LAMPS + CODE)
    faults.take(frames(good, channel=0))
    faults.take(frames(good, channel=1, flags=0))
    faults.take(frames(good, channel=1, flags=EXTENDED | REMOTE))
    faults.take(frames((DM1_OF, b"\x04"), (0x18FECB00, LAMPS + CODE), channel=1))
    assert faults.picture().dms == ()
    faults.take(frames(good, channel=1))
    assert faults.picture().codes == 1


def test_names_by_address() -> None:
    faults = Faults([0])
    name = 0x8000_0C00_1234_5678
    faults.take(frames((0x18EEFF21, name.to_bytes(8, "little"))))
    assert faults.picture().names == {(0, 0x21): Name.from_int(name)}


def test_garbage_is_bounded() -> None:
    rng = np.random.default_rng(7)
    faults = Faults([0])
    for _ in range(20):
        made = np.zeros(500, FRAME)
        made["id"] = rng.choice([DM1_OF, 0x18ECFF00, 0x18EBFF00, 0x18EEFF00], 500) | rng.integers(0, 256, 500)
        made["length"] = rng.integers(0, 9, 500)
        made["data"][:, :8] = rng.integers(0, 256, (500, 8))
        made["flags"] = EXTENDED
        faults.take(made)
    assert len(faults.picture().dms) <= 256

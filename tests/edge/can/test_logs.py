"""Every format of logs: what was written comes back, what is broken is told after all that came before."""

import gzip
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import can
import numpy as np
import pytest
import zstandard

from edge.can.frames import ERROR, EXTENDED, FRAME, OWN, REMOTE, Frames
from edge.can.logs import CandumpWriter, Logs, open_log
from edge.can.logs.mf4_frames import merged
from edge.can.logs.reader import MAX_CHANNELS
from edge.can.logs.stream import LINE_MAX
from edge.errors import LogError
from tests.conftest import ROOT
from tests.edge.can.log_files import (
    START_US,
    as_frames,
    message_of,
    messages,
    random_frames,
    read,
    text_log,
    write,
)

PYTHON_CAN = ("log", "asc", "blf", "trc", "csv", "mf4")
OURS = ("gvret", "crtd", "busmaster", "microchip")
PACKINGS = {"plain": lambda data: data, "gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("logs")
    found = {kind: text_log(kind, messages()) for kind in OURS}
    for suffix in PYTHON_CAN:
        write(folder / f"x.{suffix}", messages())
        found[suffix] = (folder / f"x.{suffix}").read_bytes()
    return found


def content(frames: Frames) -> list[tuple[int, bool, bytes]]:
    return [(int(f["id"]), bool(f["flags"] & EXTENDED), f["data"][: f["length"]].tobytes()) for f in frames]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kind", [*PYTHON_CAN, *OURS])
def test_the_same_frames_come_back(
    tmp_path: Path, written: dict[str, bytes], kind: str, packing: str
) -> None:
    path = tmp_path / "some.thing"  # content decides, not the name
    path.write_bytes(PACKINGS[packing](written[kind]))
    frames, trouble, log = read(path)
    assert trouble == ""
    assert log is not None
    assert (log.fraction, log.refused) == (1.0, {})
    assert content(frames) == [(m.arbitration_id, m.is_extended_id, bytes(m.data)) for m in messages()]
    assert abs(np.diff(frames["time_us"]) - 10_000).max() <= 1000  # the coarsest format has milliseconds
    assert len(log.channels) == 1


def test_the_same_drive_in_every_format_of_savvycan(shared_data: Path) -> None:
    folder = shared_data / "can/savvycan"
    wanted = None
    for name in (
        "candump.log",
        "CRTD_Log.txt",
        "GVRET_Log.csv",
        "BusMasterLog.log",
        "MicrochipLog.log",
        "GenericID_Log.csv",
    ):
        frames, trouble, log = read(folder / name)
        assert trouble == ""
        assert log is not None
        assert log.refused == {}
        assert len(frames) == 12974
        wanted = wanted or content(frames)
        assert content(frames) == wanted
        if name not in ("GenericID_Log.csv", "BusMasterLog.log"):  # without times; by the time of day
            assert abs(frames["time_us"] - 166_064_000)[0] < 100_000


def test_samples_of_savvycan() -> None:
    """tests/data/logs: the same twelve frames in each."""
    wanted = None
    for name in ("candump.log", "crtd.txt", "gvret.csv", "busmaster.log", "microchip.log", "generic.csv"):
        frames, trouble, log = read(ROOT / "tests/data/logs" / name)
        assert (trouble, log and log.refused, len(frames)) == ("", {}, 12)
        wanted = wanted or content(frames)
        assert content(frames) == wanted


@pytest.mark.parametrize("kind", ["log", "blf", "mf4"])
def test_python_can_reads_the_same(tmp_path: Path, kind: str) -> None:
    """Generated frames of every kind; what differs on purpose is in the test below."""
    frames = random_frames(3000, 7)
    if kind == "log":
        frames = frames[(frames["flags"] & (ERROR | REMOTE)) == 0]  # it writes neither so that they come back
    if kind == "mf4":
        frames["flags"] &= ~np.where(frames["flags"] & ERROR, OWN, 0).astype(np.uint8)
    path = tmp_path / f"x.{kind}"
    write(path, [message_of(f) for f in frames])
    with can.LogReader(path) as reader:
        wanted, channels = as_frames(list(reader))
    got, trouble, log = read(path)
    assert trouble == ""
    assert log is not None
    assert log.channels == channels
    times = got["time_us"].copy(), wanted["time_us"].copy()
    assert abs(times[0] - times[1]).max() <= 1  # python-can adds floats of 1.7e9 s
    got["time_us"] = wanted["time_us"] = 0
    assert got.tobytes() == wanted.tobytes()


def test_real_mf4_logs_as_python_can_reads_them(shared_data: Path) -> None:
    for path in sorted((shared_data / "can/logs").rglob("*.MF4"))[:3]:
        with can.MF4Reader(path) as reader:
            wanted, channels = as_frames(list(reader))
        frames, trouble, log = read(path)
        assert trouble == ""
        assert log is not None
        assert log.channels == channels
        assert frames.tobytes() == wanted.tobytes()


def test_groups_of_an_mf4_are_merged_by_time() -> None:
    """Small windows, equal times, a late record: as heapq.merge would."""
    times = ([1.0, 2.0, 2.0, 2.0, 5.0, 4.0], [2.0, 2.0, 3.0, 9.0], [])

    def records(group: int) -> Any:
        for first in range(0, len(times[group]), 2):
            part = np.array(times[group][first : first + 2])
            frames = np.zeros(len(part), FRAME)
            frames["id"] = group * 10 + np.arange(first, first + len(part))
            yield part, np.zeros(len(part), np.int64), frames

    got = list(merged([records(n) for n in range(3)]))
    assert np.concatenate([f["id"] for _, _, f in got]).tolist() == [0, 1, 2, 3, 10, 11, 12, 4, 5, 13]
    assert np.concatenate([t for t, _, _ in got]).tolist() == [1, 2, 2, 2, 2, 2, 3, 5, 4, 9]


ONE_FRAME = (
    "import os, sys, time\n"
    'print(\'{"frames": 1, "channels": ["7"], "refused": {}, "fraction": 0.5}\')\n'
    "sys.stdout.flush(); os.write(1, bytes(80))\n"
)


@pytest.mark.parametrize(
    ("then", "why"),
    [("os.abort()", "asammdf died of it"), ("time.sleep(60)", "asammdf did not get on with it")],
)
def test_asammdf_may_crash_or_hang(
    tmp_path: Path, written: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, then: str, why: str
) -> None:
    """A damaged MF4 takes its process down, not ours."""
    (tmp_path / "x").write_bytes(written["mf4"])
    monkeypatch.setattr("edge.can.logs.mf4.PROGRAM", [sys.executable, "-c", ONE_FRAME + then])
    monkeypatch.setattr("edge.can.logs.mf4.PATIENCE_S", 2.0)
    frames, trouble, log = read(tmp_path / "x")
    assert why in trouble
    assert log is not None
    assert (len(frames), log.channels, log.fraction) == (1, ["7"], 0.5)


# --- what is not a log, or not a file ---


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"hello\n", b"LOGG", b"MDF ", b"\x1f\x8b", b"(1.0) x\n"])
def test_what_is_no_log(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "no.log"
    path.write_bytes(data)
    frames, trouble, _ = read(path)
    assert len(frames) == 0
    assert str(path) in trouble
    assert "\n" not in trouble


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in read(tmp_path / "ghost.log")[1]
    assert "it is no regular file" in read(tmp_path)[1]
    os.mkfifo(tmp_path / "pipe")
    assert "it is no regular file" in read(tmp_path / "pipe")[1]  # and does not wait for a writer


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_we_may_not_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.log"
    path.write_bytes(b"(1.0) can0 123#11\n")
    path.chmod(0)
    assert "cannot be read: Permission denied" in read(path)[1]


# --- what breaks off ---


@pytest.mark.parametrize("kind", ["log", "asc", "trc", "csv", *OURS])
def test_half_a_line_is_no_shorter_frame(tmp_path: Path, written: dict[str, bytes], kind: str) -> None:
    """Cut at every byte of the last lines: whole frames only, and it is said."""
    data = written[kind].removesuffix(b"End TriggerBlock\n")
    wanted = content(read_bytes(tmp_path, written[kind]))
    for size in range(len(data) - 120, len(data)):
        (tmp_path / "cut").write_bytes(data[:size])
        frames, trouble, _ = read(tmp_path / "cut")
        assert content(frames) == wanted[: len(frames)]
        assert len(frames) >= len(wanted) - 5
        assert bool(trouble) == bool(data[:size].rpartition(b"\n")[2].strip())


def read_bytes(tmp_path: Path, data: bytes) -> Frames:
    (tmp_path / "whole").write_bytes(data)
    frames, trouble, _ = read(tmp_path / "whole")
    assert trouble == ""
    return frames


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_packing_that_breaks_off(tmp_path: Path, packing: str) -> None:
    wanted = random_frames(20_000, 5)
    writer = CandumpWriter(tmp_path / "x", ["a", "b", "c"])
    writer.write(wanted)
    writer.close()
    wanted = read_bytes(tmp_path, (tmp_path / "x").read_bytes())
    data = PACKINGS[packing]((tmp_path / "x").read_bytes())
    for part in (0.5, 0.9):
        (tmp_path / "cut").write_bytes(data[: int(len(data) * part)])
        frames, trouble, log = read(tmp_path / "cut")
        assert 5000 < len(frames) < 20_000
        assert frames.tobytes() == wanted[: len(frames)].tobytes()
        assert "its packing ends in the middle" in trouble
        assert log is not None
        assert log.refused == {}


def test_several_members_and_padding(tmp_path: Path, written: dict[str, bytes]) -> None:
    half = written["log"].index(b"\n", 5000) + 1
    parts = written["log"][:half], written["log"][half:]
    wanted = content(read_bytes(tmp_path, written["log"]))
    for pack, pad in ((gzip.compress, b"\0" * 512), (zstandard.ZstdCompressor().compress, b"")):
        assert content(read_bytes(tmp_path, b"".join(map(pack, parts)) + pad)) == wanted


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_bomb_is_read_in_bounded_memory(tmp_path: Path, pack: Any) -> None:
    """400 MB of nothing in a few KB, in a process that may have 300 MB more than it has."""
    path = tmp_path / "bomb"
    block = b"(1.0) can0 123#11\n" + b" " * (200 << 20)
    path.write_bytes(pack(block) + pack(block))
    program = (
        "import resource, sys; from pathlib import Path; from edge.can.logs import open_log\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)\n"
        "log = open_log(Path(sys.argv[1]))\n"
        "try: print(sum(map(len, log)), log.refused)\n"
        "except Exception as e: print(type(e).__name__, log.refused)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "LogError {'line too long': 2}"


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    good = b"(1.0) can0 123#11\n"
    for size in (LINE_MAX + 1, 3 << 20):
        path = tmp_path / "long"
        path.write_bytes(good + b"x" * size + b"\n" + good)
        frames, trouble, log = read(path)
        assert (len(frames), trouble) == (2, "")
        assert log is not None
        assert sum(log.refused.values()) == 1


# --- python-can's formats, where python-can is wrong ---


@pytest.mark.parametrize(
    "header", ["date Tue Nov 14 10:13:20 pm 2023\nbase hex  timestamps absolute\n", "base hex\n"]
)
def test_an_asc_with_a_short_header_keeps_its_first_frame(tmp_path: Path, header: str) -> None:
    path = tmp_path / "x.asc"
    path.write_text(
        header + "   0.5 1  123             Rx   d 2 11 22\n   0.6 2  124x            Tx   d 1 33\n"
    )
    frames, trouble, log = read(path)
    assert trouble == ""
    assert log is not None
    assert frames["id"].tolist() == [0x123, 0x124]
    assert frames["time_us"].tolist() == [500_000, 600_000]
    assert log.channels == ["0", "1"]


def test_an_asc_with_relative_times(tmp_path: Path) -> None:
    path = tmp_path / "x.asc"
    line = "   0.1 1  123             Rx   d 2 11 22\n"
    path.write_text("date x\nbase hex  timestamps relative\nno internal events logged\n" + line * 3)
    assert read(path)[0]["time_us"].tolist() == [100_000, 200_000, 300_000]


def test_a_bad_line_of_a_trc_is_refused(tmp_path: Path, written: dict[str, bytes]) -> None:
    path = tmp_path / "x.trc"
    lines = written["trc"].splitlines(keepends=True)
    lines[40:40] = [
        b"  41 12.5 DT  1 11D98 E1 96\n",
        b"nonsense\n",
        b"  41 x DT  1 00000123 Rx - 1 11\n",
        b"\n",
        b"; x\n",
    ]
    path.write_bytes(b"".join(lines))
    frames, trouble, log = read(path)
    assert (len(frames), trouble) == (300, "")
    assert log is not None
    assert log.refused == {"malformed": 3}


def test_impossible_values_are_refused(tmp_path: Path) -> None:
    head = "timestamp,arbitration_id,extended,remote,error,dlc,data\n"
    rows = [
        "-1,0x1,0,0,0,0,",
        "1e300,0x1,0,0,0,0,",
        "nan,0x1,0,0,0,0,",
        "1,0x800,0,0,0,0,",
        "2,0x20000000,1,0,0,0,",
        "3,0x7ff,0,0,0,0,",
    ]
    path = tmp_path / "x.csv"
    path.write_text(head + "\n".join(rows) + "\n")
    frames, trouble, log = read(path)
    assert (frames["id"].tolist(), trouble) == ([0x7FF], "")
    assert log is not None
    assert log.refused == {"time": 3, "identifier": 2}


def test_over_256_channels(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("".join(f"({n}.0) can{n % 300} 123#11\n" for n in range(600)))
    frames, trouble, log = read(path)
    assert trouble == ""
    assert log is not None
    assert len(log.channels) == MAX_CHANNELS
    assert log.refused == {"channels": 88}
    assert (frames["time_us"] // 1_000_000 % 300).tolist() == frames["channel"].tolist()


# --- text formats of our own ---


@pytest.mark.parametrize(
    ("head", "line", "reason"),
    [
        ("Time Stamp,ID,Extended,Bus,LEN,D1,D2", "1,123,false,0,9,11,22", "malformed"),
        ("Time Stamp,ID,Extended,Bus,LEN,D1,D2", "1,123,false,0,200,11,22", "length"),
        ("Time Stamp,ID,Extended,Bus,LEN,D1,D2", "-1,123,false,0,1,11,22", "time"),
        ("Time Stamp,ID,Extended,Bus,LEN,D1,D2", "1,800,false,0,1,11,22", "identifier"),
        ("Time Stamp,ID,Extended,Bus,LEN,D1,D2", "1,123,maybe,0,1,11,22", "malformed"),
        ("Time Stamp,ID,Extended,Bus,LEN,D1,D2", "1,123,false,0,2,11,2x", "malformed"),
        ("1.0 CXX c", "1.0 R11 800 11", "identifier"),
        ("1.0 CXX c", "1.0 R29 3FFFFFFF 11", "identifier"),
        ("1.0 CXX c", "1.0 R11 123 11 22 33 44 55 66 77 88 99", "length"),
        ("1.0 CXX c", "1.0 R11 123 1", "malformed"),
        ("1.0 CXX c", "1.0 2T29 18FG 11", "malformed"),
        ("***BUSMASTER Ver 2.4.0***", "22:20:23:552 Rx 0 00000116 s 6 00 C0", "malformed"),
        ("***BUSMASTER Ver 2.4.0***", "22:20:23:552 Rx 0 00000116 s 1 1C0", "malformed"),
        ("CAN BUS Analyzer", "1;RX;0x116;2;0x11;", "malformed"),
        ("CAN BUS Analyzer", "1;RX;0x116;255;0x11;", "length"),
        ("ID,Data Bytes", "FFFFFFFF,11", "identifier"),
        ("ID,Data Bytes", "123,11 2", "malformed"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason(tmp_path: Path, head: str, line: str, reason: str) -> None:
    path = tmp_path / "x"
    path.write_text(f"{head}\n{line}\n")
    frames, trouble, log = read(path)
    assert (len(frames), trouble) == (0, "")
    assert log is not None
    assert log.refused == {reason: 1}


def test_details_of_the_text_formats(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("1.0 CXX c\n1.5 2T29 18FF 11 22\n2 CEV Event vehicle.on\n3.000001 R11 123\n")
    frames, _, log = read(path)
    assert log is not None
    assert (log.channels, log.refused) == (["2", "0"], {})
    assert frames["flags"].tolist() == [EXTENDED | OWN, 0]
    assert frames["time_us"].tolist() == [1_500_000, 3_000_001]
    path.write_text("***BUSMASTER***\n***DEC***\n23:59:59:9000 Tx 1 291 sr 4 \n0:0:0:5000 Rx 1 16 x 1 17 \n")
    frames, _, log = read(path)
    assert log is not None
    assert log.refused == {}
    assert frames["flags"].tolist() == [REMOTE | OWN, EXTENDED]
    assert (frames["id"].tolist(), frames["length"].tolist(), frames["data"][1, 0]) == ([291, 16], [4, 1], 17)
    assert np.diff(frames["time_us"]).tolist() == [600_000]  # past midnight
    path.write_text("***BUSMASTER***\n***RELATIVE MODE***\n0:0:0:5000 Rx 1 16 x 1 17 \n")
    assert "relative times" in read(path)[1]


# --- how far ---


def test_how_far_we_are(tmp_path: Path, written: dict[str, bytes]) -> None:
    paths = [tmp_path / "a.log", tmp_path / "b.log.gz"]
    paths[0].write_bytes(written["log"] * 300)
    paths[1].write_bytes(gzip.compress(written["log"] * 300))
    logs, seen = Logs(paths), []
    for log in logs:
        for _ in log:
            seen.append(logs.fraction)
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.9
    assert logs.fraction == 1.0


def test_a_log_can_be_read_twice(tmp_path: Path, written: dict[str, bytes]) -> None:
    (tmp_path / "x").write_bytes(written["log"])
    log = open_log(tmp_path / "x")
    assert np.concatenate(list(log)).tobytes() == np.concatenate(list(log)).tobytes()
    assert log.channels == ["can0"]


# --- BLF ---


def blf(
    parts: list[bytes], start: tuple[int, ...] = (0,) * 8, packed: bool = True, size: int | None = None
) -> bytes:
    """A BLF file: a container for each part."""
    out = io.BytesIO()
    for part in parts:
        body = struct.pack("<H6xL4x", 2 if packed else 0, len(part)) + (
            zlib.compress(part) if packed else part
        )
        out.write(struct.pack("<4sHHLL", b"LOBJ", 16, 1, 16 + len(body), 10) + body + bytes(len(body) % 4))
    data = out.getvalue()
    size = 144 + len(data) if size is None else size
    head = struct.pack("<4sL8BQQLL8H8H", b"LOGG", 144, *[0] * 8, size, 0, 0, 0, *start, *[0] * 8)
    return head.ljust(144, b"\0") + data


def blf_object(
    kind: int, body: bytes, time: int = 0, flags: int = 2, version: int = 1, size: int | None = None
) -> bytes:
    head = struct.pack("<LHHQ", flags, 0, 0, time) + (bytes(8) if version == 2 else b"")
    size = 16 + len(head) + len(body) if size is None else size
    return struct.pack("<4sHHLL", b"LOBJ", 16 + len(head), version, size, kind) + head + body


def blf_message(frame_id: int = 0x123, time: int = 0, channel: int = 1, **more: int) -> bytes:
    return blf_object(1, struct.pack("<HBBL8s", channel, 0, 2, frame_id, b"\x11\x22"), time, **more)


def test_times_and_channels_of_a_blf(tmp_path: Path) -> None:
    start = (2023, 11, 2, 14, 22, 13, 20, 500)  # 1.7e9 s and a half
    objects = [
        blf_message(time=1499),
        blf_message(time=1500, channel=2),
        blf_message(time=3, flags=1, version=2),
        blf_object(999, b"whatever"),
        blf_message(version=7),
        blf_message(time=2**64 - 1),
        blf_message(time=2**63, flags=1),
        blf_message(0x800),
    ]
    path = tmp_path / "x"
    path.write_bytes(blf([b"".join(objects)], start))
    frames, trouble, log = read(path)
    assert trouble == ""
    assert log is not None
    assert (frames["time_us"] - START_US - 500_000).tolist() == [1, 2, 30, 18446744073709552]
    assert log.channels == ["0", "1"]
    assert log.refused == {"object version": 1, "time": 1, "identifier": 1}


@pytest.mark.parametrize("packed", [True, False])
def test_objects_over_containers(tmp_path: Path, packed: bool) -> None:
    data = b"".join(blf_message(n) + bytes(n % 4) for n in range(200))
    for size in (1, 7, 100, 5000):
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        (tmp_path / "x").write_bytes(blf(parts, packed=packed))
        frames, trouble, _ = read(tmp_path / "x")
        assert (frames["id"].tolist(), trouble) == (list(range(200)), "")


def test_an_object_over_very_many_containers(tmp_path: Path) -> None:
    """A byte in each: copying what there is for each of them would take for ever."""
    data = blf_message(1) + blf_object(999, bytes(30_000)) + blf_message(2)
    (tmp_path / "x").write_bytes(blf([bytes([byte]) for byte in data]))
    assert read(tmp_path / "x")[0]["id"].tolist() == [1, 2]
    (tmp_path / "x").write_bytes(blf([blf_message(1) + blf_object(999, b"", size=1 << 30)[:20], bytes(1000)]))
    assert "an object of 1073741824 bytes" in read(tmp_path / "x")[1]


def test_a_log_of_very_many_members(tmp_path: Path) -> None:
    text = "".join(f"({n}.0) can0 {n % 0x7FF:03X}#\n" for n in range(5000)).encode()
    (tmp_path / "x").write_bytes(b"".join(gzip.compress(text[at : at + 3]) for at in range(0, len(text), 3)))
    frames, trouble, _ = read(tmp_path / "x")
    assert (len(frames), trouble) == (5000, "")


def test_objects_without_containers(tmp_path: Path) -> None:
    """python-can finds none of these."""
    (tmp_path / "x").write_bytes(blf([]) + blf_message(1) + blf_message(2))
    frames, trouble, _ = read(tmp_path / "x")
    assert (frames["id"].tolist(), trouble) == ([1, 2], "")


def test_error_frames_of_a_blf(tmp_path: Path) -> None:
    """CAN_ERROR and CAN_FD_ERROR_64 too, which python-can leaves out."""
    ext = struct.pack("<HHLBBBxLLH2x8s", 2, 0, 0, 0, 0, 2, 0, 0x80000012, 0, b"\x11\x22")
    objects = [
        blf_object(73, ext),
        blf_object(2, struct.pack("<HH4x", 3, 0)),
        blf_object(104, bytes([4] + [0] * 40)),
    ]
    (tmp_path / "x").write_bytes(blf([b"".join(objects)]))
    frames, trouble, log = read(tmp_path / "x")
    assert trouble == ""
    assert log is not None
    assert frames["flags"].tolist() == [ERROR | EXTENDED, ERROR, ERROR]
    assert (frames["id"].tolist(), frames["length"].tolist()) == ([0x12, 0, 0], [2, 0, 0])
    assert log.channels == ["1", "2", "3"]


def test_a_message_that_is_too_long_is_refused(tmp_path: Path) -> None:
    fd64 = struct.pack("<BBBBLLLLLLLHBBL", 1, 15, 65, 0, 1, 0, 0x1000, 0, 0, 0, 0, 0, 0, 0, 0) + bytes(65)
    classic = struct.pack("<HBBLLBBB5x64s", 1, 0, 9, 1, 0, 0, 0, 12, bytes(64))
    (tmp_path / "x").write_bytes(blf([blf_object(101, fd64) + blf_object(100, classic) + blf_message()]))
    frames, trouble, log = read(tmp_path / "x")
    assert (frames["id"].tolist(), trouble) == ([0x123], "")
    assert log is not None
    assert log.refused == {"length": 2}


def test_data_of_fd_messages_64(tmp_path: Path) -> None:
    """As python-can: data that is not there is zero, extended data is not data."""
    objects = []
    for valid, there, offset, flags, direction in (
        (64, 64, 0, 0x7000, 0),
        (12, 8, 0, 0x1000, 1),
        (8, 20, 80, 0x1000, 0),
        (0, 0, 0, 0x10, 0),
    ):
        head = struct.pack(
            "<BBBBLLLLLLLHBBL", 2, 9, valid, 0, 0x80000123, 0, flags, 0, 0, 0, 0, 0, direction, offset, 0
        )
        objects.append(blf_object(101, head + bytes(range(1, there + 1))))
    path = tmp_path / "x.blf"
    path.write_bytes(blf([b"".join(objects)]))
    with can.BLFReader(path) as reader:
        wanted, _ = as_frames(list(reader))
    frames, trouble, _ = read(path)
    assert trouble == ""
    assert frames.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (blf([blf_message(), blf_message(size=0)]), "an object of 0 bytes"),
        (blf([blf_message(), blf_message(size=20)]), "an object of 20 bytes"),
        (blf([blf_message(), b"junkjunkjunkjunkjunk"]), "no object where one must begin"),
        (blf([blf_message(), blf_message()[:-3]]), "ends in the middle of an object"),
        (blf([blf_message()], size=10_000), "that its header speaks of"),
        (blf([blf_message()]) + b"LOBJ\x10\0\1\0\0\0\0\0\x0a\0\0\0", "no container where one must begin"),
        (
            blf([blf_message()]) + b"LOBJ\x10\0\1\0\xff\xff\xff\xff\x0a\0\0\0",
            "no container where one must begin",
        ),
        (blf([blf_message()]) + b"LOBJ\x10", "in the middle of an object's header"),
        (
            blf([blf_message()]) + b"LOBJ\x10\0\1\0\xff\xff\0\0\x0a\0\0\0" + bytes(20),
            "in the middle of a container",
        ),
        (
            blf([blf_message()]) + b"LOBJ\x10\0\1\0\x30\0\0\0\x0a\0\0\0\2" + b"\0" * 31,
            "a container is damaged",
        ),
        (blf([blf_message()]) + b"LOBJ\x10\0\1\0\x30\0\0\0\x0a\0\0\0\7" + b"\0" * 31, "unknown method 7"),
        (blf([blf_message(), blf_object(999, bytes(30 << 20)) * 3]), "holds over"),
    ],
)
def test_a_damaged_blf_gives_what_came_before(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "x").write_bytes(data)
    frames, trouble, _ = read(tmp_path / "x")
    assert frames["id"].tolist() == [0x123]
    assert why in trouble


def test_a_container_cut_short_gives_what_is_in_it(tmp_path: Path) -> None:
    """Cut at any byte of its middle: a growing part of it, and never a wrong frame."""
    data = blf([b"".join(blf_message(n * 7 % 0x7FF, time=n * 12345) for n in range(2000))])
    wanted = read_bytes(tmp_path, data)
    counts = []
    for size in range(200, len(data), 997):
        (tmp_path / "cut").write_bytes(data[:size])
        frames, trouble, _ = read(tmp_path / "cut")
        assert frames.tobytes() == wanted[: len(frames)].tobytes()
        assert "ends in the middle of a container" in trouble
        counts.append(len(frames))
    assert counts == sorted(counts)
    assert counts[-1] > 1000


def test_a_damaged_container_gives_nothing_wrong(tmp_path: Path) -> None:
    good = b"".join(blf_message(n) for n in range(500))
    data = bytearray(blf([good, good]))
    data[-200] ^= 1
    (tmp_path / "x").write_bytes(data)
    frames, trouble, _ = read(tmp_path / "x")
    assert frames["id"].tolist() == list(range(500))
    assert "a container is damaged" in trouble


def test_what_python_can_writes_at_level_zero(tmp_path: Path) -> None:
    frames = random_frames(5000, 11)
    with can.BLFWriter(tmp_path / "x.blf", compression_level=0) as writer:
        for frame in frames:
            writer.on_message_received(message_of(frame))
    got = read_bytes(tmp_path, (tmp_path / "x.blf").read_bytes())
    assert got["id"].tolist() == frames["id"].tolist()
    with pytest.raises(LogError, match="is no regular file"):
        open_log(tmp_path)

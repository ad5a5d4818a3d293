"""Every format of logs: what was written comes back, what is broken is told after all that came before."""

import gc
import gzip
import random
from pathlib import Path
from typing import Any

import can
import numpy as np
import pytest
import zstandard

from edge.can.frames import EXTENDED, FRAME, REMOTE, Frames
from edge.can.logs import CandumpWriter, open_log
from edge.errors import LogError

SEED = 3
FORMATS = ("log", "asc", "blf", "trc", "csv", "mf4")
BREAKABLE = FORMATS[:-1]  # not MF4: asammdf's compiled part can crash on a damaged file
# python-can's readers leave their files to the garbage collector where their constructor fails.
LEAKS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
PACKINGS = {"plain": lambda data: data, "gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}


def messages(count: int = 300) -> list[can.Message]:
    rng = random.Random(SEED)
    made = []
    for n in range(count):
        extended = rng.random() < 0.5
        made.append(
            can.Message(
                timestamp=1_700_000_000 + n * 0.01,
                arbitration_id=rng.randrange(1 << (29 if extended else 11)),
                is_extended_id=extended,
                data=rng.randbytes(rng.randrange(1, 9)),
                channel=0,
                is_rx=True,
            )
        )
    return made


def write(path: Path, what: list[can.Message]) -> None:
    with can.Logger(path) as logger:
        for message in what:
            logger.on_message_received(message)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("logs")
    found = {}
    for suffix in FORMATS:
        write(folder / f"x.{suffix}", messages())
        found[suffix] = (folder / f"x.{suffix}").read_bytes()
    return found


def read(path: Path) -> tuple[Frames, str]:
    """All frames, and how it ended."""
    parts, trouble = [np.zeros(0, FRAME)], ""
    try:
        parts += list(open_log(path))
    except LogError as error:
        trouble = str(error)
    gc.collect()
    return np.concatenate(parts), trouble


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_frames_come_back(
    tmp_path: Path, written: dict[str, bytes], suffix: str, packing: Any
) -> None:
    path = tmp_path / "some.thing"  # content decides, not the name
    path.write_bytes(PACKINGS[packing](written[suffix]))
    frames, trouble = read(path)
    assert trouble == ""
    wanted = messages()
    assert frames["id"].tolist() == [m.arbitration_id for m in wanted]
    assert (frames["flags"] & EXTENDED).astype(bool).tolist() == [m.is_extended_id for m in wanted]
    assert [f["data"][: f["length"]].tobytes() for f in frames] == [bytes(m.data) for m in wanted]
    steps = np.diff(frames["time_us"])
    assert abs(steps - 10_000).max() <= 1000  # the coarsest format has milliseconds


@pytest.mark.parametrize("packing", ["plain", "gz"])
@pytest.mark.parametrize("suffix", BREAKABLE)
@LEAKS
def test_a_cut_log_gives_what_came_before(
    tmp_path: Path, written: dict[str, bytes], suffix: str, packing: Any
) -> None:
    rng = random.Random(SEED)
    data = PACKINGS[packing](written[suffix])
    wanted = [m.arbitration_id for m in messages()]
    path = tmp_path / "cut"
    for _ in range(12):
        path.write_bytes(data[: rng.randrange(len(data))])
        frames, trouble = read(path)
        ids = frames["id"].tolist()
        assert ids[:-1] == wanted[: len(ids)][:-1]  # a text line cut inside may end in a shorter frame
        assert trouble.count("\n") == 0


@pytest.mark.parametrize("suffix", BREAKABLE)
@LEAKS
def test_a_damaged_log_is_one_typed_error_at_most(
    tmp_path: Path, written: dict[str, bytes], suffix: str
) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    for _ in range(25):
        data = bytearray(written[suffix])
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "damaged").write_bytes(data)
        frames, _ = read(tmp_path / "damaged")
        assert frames["length"].max(initial=0) <= 64


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"hello\n", b"LOGG", b"MDF ", b"\x1f\x8b", b"(1.0) x\n"]
)
@LEAKS
def test_what_is_no_log(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.log"
    path.write_bytes(content)
    frames, trouble = read(path)
    assert len(frames) == 0
    assert str(path) in trouble


def test_missing_log(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in read(tmp_path / "ghost.log")[1]


def test_our_candump_comes_back_exactly(tmp_path: Path) -> None:
    frames = np.zeros(4, FRAME)
    frames["time_us"] = [1, 1_000_000, 1_700_000_000_000_001, 1_700_000_000_000_002]
    frames["id"], frames["flags"] = [1, 0x7FF, 1, 0x1FFFFFFF], [0, REMOTE, EXTENDED, EXTENDED]
    frames["length"], frames["channel"] = [2, 0, 8, 0], [0, 1, 0, 1]
    frames["data"][0, :2], frames["data"][2, :8] = [1, 255], range(8)
    path = tmp_path / "ours.log"
    writer = CandumpWriter(path, ["a", "b"])
    writer.write(frames)
    writer.close()
    log = open_log(path)
    again = np.concatenate(list(log))
    assert log.channels == ["a", "b"]
    assert again.tobytes() == frames.tobytes()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="cannot be written"):
        CandumpWriter(tmp_path / "no" / "such.log", ["a"])

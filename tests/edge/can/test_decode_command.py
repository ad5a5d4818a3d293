"""`ayaz decode`: logs through databases, into every format."""

import csv
import json
from pathlib import Path
from typing import Any

import cantools
import pytest

from edge.cli import run_command
from sim_bus.command import run_simulation

ROOT = Path(__file__).parent.parent.parent.parent
BMS, VEHICLE = (str(ROOT / f"dbc/{name}.dbc") for name in ("bms", "vehicle"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("decode") / "bus.log"
    run_simulation("winter_day", str(path), seed=1, duration_s=8, speed=None)
    return str(path)


def rows_of(path: Path, fmt: str) -> list[tuple[str, str, Any]]:
    """(message, signal, value) in order."""
    if fmt == "jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [(line["message"], name, value) for line in lines for name, value in line["signals"].items()]
    if fmt == "csv":
        with path.open(newline="") as file:
            return [(r["message"], r["signal"], r["value"]) for r in csv.DictReader(file)]
    import pyarrow.parquet  # type: ignore[import-untyped]

    table = pyarrow.parquet.read_table(path).to_pylist()
    return [(r["message"], r["signal"], r["text"] if r["value"] is None else r["value"]) for r in table]


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
def test_every_format_holds_what_cantools_decodes(log: str, tmp_path: Path, fmt: str) -> None:
    out = tmp_path / "out"
    assert run_command(["decode", log, "--dbc", BMS, "--format", fmt, "-o", str(out)]) == 0
    database: Any = cantools.database.load_file(BMS)
    wanted = []
    for line in Path(log).read_text().splitlines():
        _, channel, frame = line.split()
        frame_id, data = frame.split("#")
        if channel == "bms":
            message = database.get_message_by_frame_id(int(frame_id, 16))
            decoded = message.decode(bytes.fromhex(data))
            wanted += [(message.name, name, value) for name, value in decoded.items()]
    got = rows_of(out, fmt)
    assert len(got) == len(wanted) > 5000
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours[:2] == theirs[:2]
        assert str(ours[2]) == str(theirs[2]) or float(ours[2]) == float(theirs[2])
    assert not list(tmp_path.glob("*.part"))


def test_raw_choices_and_stdout(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    states = []
    for more in ([], ["--raw-choices"]):
        assert run_command(["decode", log, "--dbc", BMS, "--format", "jsonl", *more]) == 0
        lines = map(json.loads, capsys.readouterr().out.splitlines())
        states.append(next(line["signals"]["State"] for line in lines if "State" in line["signals"]))
    assert isinstance(states[0], str)
    assert states[1] == 3


def test_stats_and_a_bam_message(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["decode", log, "--dbc", BMS, "--dbc", VEHICLE, "--j1939", "--stats", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["frames"] == len(Path(log).read_text().splitlines())
    assert stats["refused"] == 0
    assert stats["decoded"] > 0.7 * stats["frames"]
    assert run_command(["decode", log, "--dbc", VEHICLE, "--j1939", "--format", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    database: Any = cantools.database.load_file(VEHICLE)
    long = {m.name for m in database.messages if m.length > 8}
    assert long
    assert long <= {line["message"] for line in lines}


@pytest.mark.parametrize(
    ("log_text", "dbc_text", "out", "says"),
    [
        ("nothing that is a log", None, "out", "in a format that is not known"),
        (None, "VERSION (", "out", "wrong.dbc"),
        (None, None, "no/such/out", "cannot be written"),
        ("(1.0) bms 123#00\n(2.0) bms 12#", None, "out", None),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    log_text: str | None, dbc_text: str | None, out: str, says: str | None,
) -> None:  # fmt: skip
    source, dbc = log, BMS
    if log_text is not None:
        source = str(tmp_path / "wrong.log")
        Path(source).write_text(log_text)
    if dbc_text is not None:
        dbc = str(tmp_path / "wrong.dbc")
        Path(dbc).write_text(dbc_text)
    status = run_command(["decode", source, "--dbc", dbc, "-o", str(tmp_path / out)])
    said = capsys.readouterr().err
    if says is None:
        return
    assert status == 1
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / out).exists()
    assert not list(tmp_path.glob("*.part"))


def test_real_trucks_in_mf4(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CANedge's log of a real truck through the J1939 demo database: values that a truck can have."""
    truck = shared_data / "can/logs/css_canedge/FCBF0606/00003482/00000001-60B621D9.MF4"
    dbc = shared_data / "can/css/CSS-Electronics-SAE-J1939-DEMO.dbc"
    assert run_command(["decode", str(truck), "--dbc", str(dbc), "--j1939", "--format", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    speeds = [v for line in lines for k, v in line["signals"].items() if k == "EngineSpeed"]
    assert len(lines) == 761
    assert len(speeds) > 50
    assert all(0 <= v < 3000 for v in speeds)


def test_every_real_log_is_read(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = sorted((shared_data / "can/logs").rglob("*.MF4"))
    assert len(logs) >= 9
    for path in logs:
        assert run_command(["decode", str(path), "--dbc", VEHICLE, "--stats", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["frames"] > 1000


def test_what_savvycan_writes(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its logs are read, whatever format it wrote them in; one that is not known is told in one line."""
    folder = shared_data / "can/savvycan"
    dbc = str(folder / "ThinkCity.dbc")
    for name in ("candump.log", "BusMasterLog.log", "CRTD_Log.txt", "GVRET_Log.csv", "MicrochipLog.log"):
        assert run_command(["decode", str(folder / name), "--dbc", dbc, "--stats", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["frames"] == 12974
    assert run_command(["decode", str(folder / "CarBusAnalyzer.trc"), "--dbc", dbc]) == 1
    assert "we read candump, ASC, BLF" in capsys.readouterr().err

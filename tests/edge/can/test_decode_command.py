"""`ayaz decode`: logs through databases, into every format."""

import csv
import gzip
import io
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import can
import cantools
import pytest

from edge.can.j1939 import limits
from edge.cli import run_command
from tests.conftest import AYAZ, CHANNELS, simulate

ROOT = Path(__file__).parent.parent.parent.parent
BMS, INVERTER, VEHICLE = (str(ROOT / f"dbc/{name}.dbc") for name in CHANNELS)
SEED = 11
HEADER = "t,channel,id,message,signal,value"
Row = tuple[float, str, int, str, str, Any]  # the six columns


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("decode") / "bus.log"
    simulate("winter_day", path, duration_s=8)
    return str(path)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def decoded(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints, where it succeeds."""
    status = run_command(["decode", *arguments])
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out


def rows_of(content: bytes, fmt: str) -> list[Row]:
    """A row per signal, in order; a csv's values are texts."""
    if fmt == "jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        heads = [tuple(line[k] for k in ("t", "channel", "id", "message")) for line in lines]
        return [(*h, *pair) for h, line in zip(heads, lines, strict=True) for pair in line["signals"].items()]
    if fmt == "csv":
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
        assert ",".join(rows[0]) == HEADER
        return [(float(r[0]), r[1], int(r[2]), r[3], r[4], r[5]) for r in rows[1:]]
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(content)).to_pylist()
    return [(*list(r.values())[:5], r["text"] if r["value"] is None else r["value"]) for r in table]


def by_cantools(log: str, dbc: str, channel: str | None, **options: Any) -> Iterator[Row]:
    """The same rows: python-can reads, cantools decodes, in a plain loop. Frames that it refuses give none;
    J1939's values that are no numbers are None."""
    database: Any = cantools.database.load_file(dbc, strict=False)
    known = {key_of(m.frame_id, m.is_extended_frame, m.protocol == "j1939"): m for m in database.messages}
    with can.LogReader(log) as reader:
        for frame in reader:
            keys = [key_of(frame.arbitration_id, frame.is_extended_id, j1939) for j1939 in (False, True)]
            message = known.get(keys[0]) or known.get(keys[1])
            plain = not frame.is_error_frame and not frame.is_remote_frame
            if message is None or not plain or channel not in (None, str(frame.channel)):
                continue
            try:
                signals = message.decode(bytes(frame.data), **options)
            except (cantools.database.errors.DecodeError, KeyError, ValueError):
                continue
            t = round(frame.timestamp * 1e6) / 1e6
            by_pgn = message.protocol == "j1939"
            raws = message.decode(bytes(frame.data), False, False) if by_pgn else {}
            for name, value in signals.items():
                text = value if isinstance(value, int | float) else str(value)
                ranges = limits(message.get_signal_by_name(name).length)
                if by_pgn and ranges and raws[name] >= ranges[0]:
                    text = None
                yield t, str(frame.channel), frame.arbitration_id, message.name, name, text


def key_of(frame_id: int, extended: bool, j1939: bool) -> tuple[str, int]:
    """What a message is found by: its identifier, or its PGN."""
    if not (j1939 and extended):
        return ("extended" if extended else "standard"), frame_id
    pgn = frame_id >> 8 & 0x3FFFF
    return "pgn", pgn if pgn >> 8 & 0xFF >= 240 else pgn & 0x3FF00


def same(ours: list[Row], theirs: list[Row], fmt: str) -> None:
    """The same rows, the values to the bit; Parquet has numbers as doubles, CSV their shortest texts."""
    assert len(ours) == len(theirs)
    for mine, wanted in zip(ours, theirs, strict=True):
        value = wanted[5]
        if fmt == "csv":
            value = str(value)
        elif fmt == "parquet" and not isinstance(value, str):
            value = float(value)
        assert mine == (*wanted[:5], value)
        assert type(mine[5]) is type(value)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["bms", "inverter"])
def test_every_format_holds_what_cantools_decodes(
    log: str, tmp_path: Path, fmt: str, raw: bool, name: str
) -> None:
    out, dbc = tmp_path / "out", str(ROOT / f"dbc/{name}.dbc")
    options = ["--raw-choices"] if raw else []
    assert run_command(["decode", log, "--dbc", dbc, "--format", fmt, "-o", str(out), *options]) == 0
    theirs = list(by_cantools(log, dbc, name, decode_choices=not raw))
    assert len(theirs) > 500
    same(rows_of(out.read_bytes(), fmt), theirs, fmt)
    assert names_in(tmp_path) == ["out"]


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
def test_what_savvycan_wrote(shared_data: Path, tmp_path: Path, fmt: str) -> None:
    folder, out = shared_data / "can/savvycan", tmp_path / "out"
    source, dbc = str(folder / "candump.log"), str(folder / "ThinkCity.dbc")
    assert run_command(["decode", source, "--dbc", dbc, "--format", fmt, "-o", str(out)]) == 0
    theirs = list(by_cantools(source, dbc, None))
    assert len(theirs) > 1_000
    same(rows_of(out.read_bytes(), fmt), theirs, fmt)


def test_every_real_log_and_what_its_database_says(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CANedge's logs of real trucks and cars; the database itself says that it is J1939's."""
    dbc = str(shared_data / "can/css/CSS-Electronics-SAE-J1939-DEMO.dbc")
    logs = sorted((shared_data / "can/logs").rglob("*.MF4"))
    assert len(logs) >= 9
    rows = 0
    for path in logs:
        theirs = list(by_cantools(str(path), dbc, None))
        rows += len(theirs)
        same(
            rows_of(decoded(capsys, str(path), "--dbc", dbc, "--format", "jsonl").encode(), "jsonl"),
            theirs,
            "jsonl",
        )
    assert rows > 1_000


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
def test_garbage_on_three_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str], fmt: str) -> None:
    """Random frames (SEED), of known identifiers too, whole, short, too long, remote, error: as cantools takes each."""
    rng = random.Random(SEED)
    database: Any = cantools.database.load_file(BMS)
    known = [m.frame_id for m in database.messages]
    lines = []
    for n in range(30_000):
        frame_id = rng.choice(known) if rng.random() < 0.7 else rng.randrange(1 << 11)
        name = f"{rng.randrange(1 << 29):08X}" if rng.random() < 0.1 else f"{frame_id:03X}"
        data = rng.randbytes(rng.choice([8, 8, 8, 8, *range(8)])).hex()
        body = rng.choice([f"#{data}"] * 8 + ["#R", f"##1{data}", f"##0{rng.randbytes(64).hex()}"])
        if rng.random() < 0.02:
            name, body = "20000004", "#0000000000000000"
        lines.append(f"({1_600_000_000 + n / 1e3:.6f}) {rng.choice('abc')} {name}{body}\n")
    log, out = tmp_path / "garbage.log", tmp_path / "out"
    log.write_text("".join(lines))
    assert run_command(["decode", str(log), "--dbc", BMS, "--format", fmt, "-o", str(out)]) == 0
    theirs = list(by_cantools(str(log), BMS, None))
    assert len(theirs) > 10_000
    same(rows_of(out.read_bytes(), fmt), theirs, fmt)
    capsys.readouterr()
    stats = json.loads(decoded(capsys, str(log), "--dbc", BMS, "--stats", "--json"))
    assert stats["frames"] == len(lines)
    assert all(stats["ledger"][kind] > 100 for kind in ("too_short", "error_frames", "remote_frames"))
    by_id = {one["id"]: 0 for one in stats["ids"] if one["message"]}
    for one in stats["ids"]:
        if one["message"]:
            by_id[one["id"]] += one["refused"]
    assert sum(by_id.values()) == stats["refused"] > 100


def test_real_trucks_by_pgn(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real truck through the J1939 demo database: values that a truck can have, and null where it has none."""
    truck = shared_data / "can/logs/css_canedge/FCBF0606/00003482/00000001-60B621D9.MF4"
    dbc = shared_data / "can/css/CSS-Electronics-SAE-J1939-DEMO.dbc"
    out = decoded(capsys, str(truck), "--dbc", str(dbc), "--j1939", "--format", "jsonl")
    speeds = [v for *_, name, v in rows_of(out.encode(), "jsonl") if name == "EngineSpeed"]
    assert len(speeds) > 50
    assert all(0 <= v < 3000 for v in speeds if v is not None)


def test_stats_are_a_ledger(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = decoded(capsys, log, "--dbc", BMS, "--dbc", VEHICLE, "--j1939", "--stats", "--json")
    stats = json.loads(out)
    lines = Path(log).read_text().splitlines()
    assert len(out.splitlines()) == 1
    assert stats["frames"] == len(lines)
    assert stats["refused"] == sum(stats["reasons"].values()) == 0
    kinds = ("decoded", "unknown", "refused", "error_frames", "remote_frames", "transport")
    assert stats["frames"] == sum(stats["ledger"].get(kind, 0) for kind in kinds)
    assert stats["unknown"] == sum(line.split()[1] == "inverter" for line in lines)
    assert sum(one["frames"] for one in stats["ids"]) == stats["frames"]
    assert {one["message"] is None for one in stats["ids"] if one["channel"] == "inverter"} == {True}
    assert {one["message"] is None for one in stats["ids"] if one["channel"] == "bms"} == {False}
    pack = next(one for one in stats["ids"] if one["message"] == "BMS_PackStatus")
    assert pack["period_ms"] == pytest.approx(100, rel=0.02)
    half = decoded(capsys, log, "--dbc", BMS, "--stats", "--json", "--bitrate", "1M", "--bitrate", "bms=250k")
    for before, after in zip(stats["channels"], json.loads(half)["channels"], strict=True):
        factor = 2 if before["channel"] == "bms" else 0.5
        assert after["load_pct"] == pytest.approx(factor * before["load_pct"], abs=1e-3)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_table_for_people(
    log: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = decoded(capsys, log, "--dbc", BMS, "--dbc", VEHICLE, "--stats")
    assert max(map(len, out.splitlines())) <= int(columns)
    assert "BMS_CellVoltages1" in out
    assert "unknown" in out


def test_messages_longer_than_a_frame(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    database: Any = cantools.database.load_file(VEHICLE)
    long = {m.name for m in database.messages if m.length > 8}
    assert long
    rows = rows_of(decoded(capsys, log, "--dbc", VEHICLE, "--j1939", "--format", "jsonl").encode(), "jsonl")
    assert long <= {row[3] for row in rows}


@pytest.mark.parametrize(
    ("wanted", "signals"),
    [
        (["SoC"], {"SoC"}),
        (["BMS_PackStatus.PackVoltage"], {"PackVoltage"}),
        (["SoC", "PackCurrent"], {"SoC", "PackCurrent"}),
        (["SoC,PackCurrent"], {"SoC", "PackCurrent"}),
        (["Pack[CV]*"], {"PackCurrent", "PackVoltage"}),
        (["*PackStatus.S?C"], {"SoC"}),
    ],
)
def test_signals_to_choose(
    log: str, capsys: pytest.CaptureFixture[str], wanted: list[str], signals: set[str]
) -> None:
    options = [part for name in wanted for part in ("--signals", name)]
    every = rows_of(decoded(capsys, log, "--dbc", BMS, "--format", "jsonl").encode(), "jsonl")
    some = rows_of(decoded(capsys, log, "--dbc", BMS, "--format", "jsonl", *options).encode(), "jsonl")
    assert {row[4] for row in some} == signals
    assert some == [row for row in every if row[4] in signals]


def test_a_signal_that_is_not_there_and_one_near_it(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["decode", log, "--dbc", BMS, "--signals", "PackVolts", "--signals", "Zz*"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    assert "PackVoltage" in said.err.splitlines()[0]


def test_a_channel_and_a_time_to_choose(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--dbc", BMS, "--dbc", INVERTER, "--dbc", VEHICLE)
    every = rows_of(decoded(capsys, log, *options).encode(), "csv")
    only = rows_of(decoded(capsys, log, *options, "--channel", "inverter").encode(), "csv")
    assert only == [row for row in every if row[1] == "inverter"]
    first = float(Path(log).read_text().split(")")[0][1:])
    part = rows_of(decoded(capsys, log, *options, "--start-s", "3", "--end-s", "4").encode(), "csv")
    since = [round((row[0] - first) * 1e6) for row in every]
    assert part == [row for row, us in zip(every, since, strict=True) if 3_000_000 <= us <= 4_000_000]
    assert 0 < len(part) < len(every)
    assert run_command(["decode", log, "--dbc", BMS, "--channel", "bsm"]) == 1
    assert "no channel 'bsm'; they have: vehicle, inverter, bms" in capsys.readouterr().err
    assert run_command(["decode", log, "--dbc", BMS, "--end-s", "nan"]) == 2


def test_a_database_for_one_channel(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same messages under other names, for one channel: they hold there, and it is said."""
    renamed = tmp_path / "x=y.dbc"  # a path may have a =, too
    renamed.write_text(Path(BMS).read_text("cp1252").replace("BMS_PackStatus", "OTHER"), "cp1252")
    plain = ["--signals", "PackVoltage", "--format", "jsonl"]
    for dbcs, message, warns in (
        ([f"bms={renamed}"], "OTHER", False),
        ([f"bms={renamed}", BMS], "OTHER", True),
        ([BMS, f"bms={renamed}"], "OTHER", True),
        ([BMS, str(renamed)], "BMS_PackStatus", True),
        ([str(renamed)], "OTHER", False),
        ([f"inverter={renamed}", BMS], "BMS_PackStatus", True),
    ):
        options = [part for dbc in dbcs for part in ("--dbc", dbc)]
        assert run_command(["decode", log, *options, *plain]) == 0
        said = capsys.readouterr()
        assert {row[3] for row in rows_of(said.out.encode(), "jsonl")} == {message}
        assert (
            "both have identifier 0x100 (" in said.err and ") and 12 messages more; " in said.err
        ) == warns
    assert run_command(["decode", log, "--dbc", f"bmz={renamed}"]) == 0
    assert "no channel 'bmz'" in capsys.readouterr().err


def test_one_that_we_ship_by_its_name(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert decoded(capsys, log, "--dbc", "bms") == decoded(capsys, log, "--dbc", BMS)
    assert run_command(["decode", log, "--dbc", "bsm"]) == 1
    assert "bms, inverter, vehicle" in capsys.readouterr().err


def test_several_logs_in_order(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut in two, anywhere, also in the middle of a transport; packed, too."""
    lines = Path(log).read_text().splitlines(keepends=True)
    parts = [tmp_path / "1.log", tmp_path / "2.log.gz"]
    cut = next(n for n, line in enumerate(lines) if "1CECFFF3" in line) + 2
    parts[0].write_text("".join(lines[:cut]))
    parts[1].write_bytes(gzip.compress("".join(lines[cut:]).encode()))
    options = ("--dbc", BMS, "--dbc", VEHICLE, "--j1939")
    assert decoded(capsys, *map(str, parts), *options) == decoded(capsys, log, *options)


def test_what_an_output_is_called_says_its_format(log: str, tmp_path: Path) -> None:
    for name, magic in (("o.csv", b"t,ch"), ("o.jsonl", b'{"t"'), ("o.parquet", b"PAR1"), ("o.txt", b"t,ch")):
        assert run_command(["decode", log, "--dbc", BMS, "--signals", "SoC", "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes()[:4] == magic


@pytest.mark.parametrize(
    ("log_text", "dbc_text", "out", "says"),
    [
        ("nothing that is a log", None, "out", "in a format that is not known"),
        ("", None, "out", "empty"),
        ("(1.0) bms zz", None, "out", "wrong.log"),
        (None, "VERSION (", "out", "wrong.dbc"),
        (None, None, "no/such/out", "cannot be written"),
        (None, None, ".", "cannot be written"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    log_text: str | None, dbc_text: str | None, out: str, says: str,
) -> None:  # fmt: skip
    source, dbc = log, BMS
    if log_text is not None:
        source = str(tmp_path / "wrong.log")
        Path(source).write_text(log_text)
    if dbc_text is not None:
        dbc = str(tmp_path / "wrong.dbc")
        Path(dbc).write_text(dbc_text)
    before = names_in(tmp_path)
    for options in (["-o", str(tmp_path / out)], []):
        if options or out == "out":
            assert run_command(["decode", source, "--dbc", dbc, *options]) == 1
            said = capsys.readouterr()
            assert says in said.err
            assert len(said.err.strip().splitlines()) == 1
            assert said.out == ""  # not even the header
    assert names_in(tmp_path) == before


def test_every_log_that_is_missing_is_told_at_once(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["decode", "no1.log", log, "no2.log", "--dbc", BMS]) == 1
    said = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in said.err.splitlines()] == ["no1.log", "no2.log"]
    assert said.out == ""


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
def test_a_log_that_breaks_off_gives_all_before(
    log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], fmt: str
) -> None:
    lines = Path(log).read_text().splitlines(keepends=True)
    whole, cut, out = tmp_path / "whole.log", tmp_path / "cut.log.gz", tmp_path / "out"
    whole.write_text("".join(lines[:500]))
    cut.write_bytes(gzip.compress("".join(lines[500:]).encode())[:-2000])
    status = run_command(["decode", str(cut), str(whole), "--dbc", BMS, "--format", fmt, "-o", str(out)])
    said = capsys.readouterr().err
    assert status == 1
    assert len(said.strip().splitlines()) == 1
    assert "cut.log.gz" in said
    assert f"what came before is in {out}" in said
    rows = rows_of(out.read_bytes(), fmt)
    tail = list(by_cantools(str(whole), BMS, "bms"))
    same(rows[-len(tail) :], tail, fmt)  # the next log follows
    start = [row for row in by_cantools(log, BMS, "bms") if row not in tail]
    same(rows[: -len(tail)], start[: len(rows) - len(tail)], fmt)
    assert 100 < len(rows) - len(tail) < len(start)
    assert not list(tmp_path.glob("*.part"))
    assert run_command(["decode", str(cut), "--dbc", BMS, "--stats", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["frames"] > 100


def test_no_input_is_ever_overwritten(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, dbc, part = tmp_path / "bus.log", tmp_path / "bms.dbc", tmp_path / "out.part"
    link, hard = tmp_path / "link", tmp_path / "hard"
    for path in (mine, part):
        path.write_bytes(Path(log).read_bytes())
    dbc.write_bytes(Path(BMS).read_bytes())
    link.symlink_to(mine)
    hard.hardlink_to(mine)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    inputs = ["decode", str(mine), str(part), "--dbc", f"bms={dbc}"]
    for out in (mine, link, hard, dbc, tmp_path / "out", tmp_path / "." / "bus.log"):
        assert run_command([*inputs, "-o", str(out)]) == 2
        assert "would overwrite" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    other = tmp_path / "other"
    other.write_text("old")
    assert run_command(["decode", str(mine), "--dbc", str(dbc), "-o", str(other)]) == 0
    assert other.read_text().startswith(HEADER)


def test_a_device_is_written_to_and_stays_one(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["decode", log, "--dbc", BMS, "-o", "/dev/null"]) == 0
    assert not Path("/dev/null").is_file()
    assert decoded(capsys, log, "--dbc", BMS, "-o", "-") == decoded(capsys, log, "--dbc", BMS)
    if Path("/dev/full").exists():
        assert run_command(["decode", log, "--dbc", BMS, "-o", "/dev/full"]) == 1
        assert "/dev/full: cannot be written: No space left" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json"],
        ["--format", "parquet"],
        ["--stats", "-o", "x"],
        ["--stats", "--format", "csv"],
        ["--stats", "--signals", "SoC"],
        ["--format", "xml"],
        ["--stats", "--bitrate", "fast"],
        ["--stats", "--bitrate", "0"],
        ["--stats", "--bitrate", "1k/2k/3k"],
    ],
)
def test_wrong_usage(log: str, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run_command(["decode", log, "--dbc", BMS, *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Usage" in said.err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    out = decoded(capsys, "--help")
    assert "Examples:" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.fixture(scope="module")
def long_log(log: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The short one again and again: half a million frames."""
    path = tmp_path_factory.mktemp("long") / "long.log"
    text = Path(log).read_text()
    with path.open("w") as file:
        for _ in range(500_000 // text.count("\n") + 1):
            file.write(text)
    return str(path)


def test_head_takes_what_it_wants(long_log: str) -> None:
    command = [*AYAZ, "decode", long_log, "--dbc", BMS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().decode().strip() == HEADER
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) != 0


@pytest.mark.parametrize("fmt", ["csv", "parquet"])
def test_ctrl_c_leaves_nothing_behind(long_log: str, tmp_path: Path, fmt: str) -> None:
    out = tmp_path / "out"
    command = [*AYAZ, "decode", *[long_log] * 20, "--dbc", BMS, "--format", fmt, "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr
        deadline = time.monotonic() + 60
        while not (part := tmp_path / "out.part").exists() or part.stat().st_size < 100_000:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert said.strip() == b"ayaz: stopped"
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
def test_memory_stays_when_the_log_grows(log: str, long_log: str, tmp_path: Path, fmt: str) -> None:
    """The peak of a process that decodes two long logs, beside one that decodes half of one."""
    half = tmp_path / "half.log"
    half.write_text(
        Path(long_log).read_text()[: Path(long_log).stat().st_size // 2].rpartition("\n")[0] + "\n"
    )
    peaks = []
    for logs in ([str(half)], [long_log, long_log]):
        out = tmp_path / "out"
        command = [*AYAZ, "decode", *logs, "--dbc", BMS, "--format", fmt, "-o", str(out)]
        with subprocess.Popen(command) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)
    print(f"peak of {fmt}, a quarter and all: {peaks[0] / 1024:.0f} and {peaks[1] / 1024:.0f} MiB")
    assert peaks[1] < 1.3 * peaks[0]


CLAIM = 0x8000_4B21_4321_0F0F  # a NAME: identity 0x10F0F, manufacturer 0x219, function 0x4B


@pytest.fixture(scope="module")
def j1939_log(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two sources of one PGN, an address claim, DM1 in one frame and (three codes) as a BAM, DM2 too short."""
    dm1 = bytes([0b01_00_11_00, 0xFF, *[0x34, 0x12, 0xA3, 0x05] * 3])
    data = [dm1[:7], dm1[7:14]]
    frames = [
        ("18EEFF80", CLAIM.to_bytes(8, "little").hex()),
        ("18FEF10B", "FFFFFF00000000FF"),
        ("0CFEF121", "FFFFFF00000000FF"),
        ("18FECA80", "04FF341203810000"),
        ("1CECFF80", "200E0002FFCAFE00"),
        *[("1CEBFF80", f"{n:02X}{part.hex()}") for n, part in enumerate(data, 1)],
        ("18FECB80", "04"),
    ]
    path = tmp_path_factory.mktemp("j1939") / "truck.log"
    lines = [f"({n / 10 + 1:.6f}) can0 {name}#{part.upper()}\n" for n, (name, part) in enumerate(frames)]
    path.write_text("".join(lines))
    return str(path)


def without(names: str, dbc: str) -> str:
    """A database's text without the messages whose names begin so."""
    whole: Any = cantools.database.load_file(dbc, sort_signals=None)
    kept = [m for m in whole.messages if not re.match(names, m.name)]
    assert len(kept) < len(whole.messages)
    some = cantools.database.Database(kept, whole.nodes, whole.buses, whole.version, whole.dbc)
    return str(some.as_dbc_string())


def test_what_j1939_itself_defines(
    j1939_log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the database has no words for it."""
    vehicle = tmp_path / "vehicle.dbc"
    vehicle.write_text(without("AddressClaim|DM1", VEHICLE), "cp1252", newline="")
    out = decoded(capsys, j1939_log, "--dbc", str(vehicle), "--j1939", "--format", "jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    claim, here, there, one, three = [line for line in lines if not line["message"].startswith("TP_")]
    assert (claim["t"], claim["id"], claim["message"]) == (1.0, 0x18EEFF80, "AddressClaimed")
    assert claim["signals"]["Name"] == CLAIM
    assert claim["signals"]["IdentityNumber"] == CLAIM & 0x1FFFFF
    assert claim["signals"]["Function"] == 0x4B
    assert [line["id"] & 0xFF for line in (here, there)] == [0x0B, 0x21]
    assert here["message"] == there["message"] == "CCVS1"
    assert here["signals"] == {"WheelBasedVehicleSpeed": None}
    assert (one["message"], one["signals"]["AmberWarningLamp"], one["signals"]["ActiveDtcCount"]) == (
        "DM1",
        1,
        1,
    )
    assert one["signals"]["AmberWarningLampFlash"] is None
    assert {k: one["signals"][f"Dtc1.{k}"] for k in ("Spn", "Fmi")} == {"Spn": 0x1234, "Fmi": 3}
    assert (three["t"], three["id"], three["message"]) == (1.6, 0x1CEBFF80, "DM1")
    assert three["signals"]["ActiveDtcCount"] == 3
    assert three["signals"]["Dtc3.Spn"] == 5 << 16 | 0x1234
    assert not any(name.startswith("Dtc4.") for name in three["signals"])
    assert three["signals"]["AmberWarningLamp"] is None
    rows = rows_of(
        decoded(capsys, j1939_log, "--dbc", str(vehicle), "--j1939", "--signals", "DM1.*Lamp*").encode(),
        "csv",
    )
    assert {row[3] for row in rows} == {"DM1"}
    assert [row[5] for row in rows if row[4] == "AmberWarningLamp"] == ["1", "not available"]
    assert run_command(["decode", j1939_log, "--dbc", str(vehicle), "--signals", "DM1.*"]) == 1
    assert "no database has such a signal" in capsys.readouterr().err


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
def test_what_is_not_available_or_in_error(tmp_path: Path, fmt: str) -> None:
    """Raw 0xFFFF, 0xFE00, and the highest number there is."""
    log, out = tmp_path / "log", tmp_path / "out"
    raws = ("FFFF", "00FE", "FFFA")
    log.write_text(
        "".join(f"({n + 1}.000000) can0 18FEF10B#FF{raw}FFFFFFFFFF\n" for n, raw in enumerate(raws))
    )
    options = ["--signals", "WheelBasedVehicleSpeed", "--format", fmt, "-o", str(out)]
    assert run_command(["decode", str(log), "--dbc", VEHICLE, "--j1939", *options]) == 0
    values = [row[5] for row in rows_of(out.read_bytes(), fmt)]
    highest = 0xFAFF / 256
    wanted: dict[str, list[Any]] = {
        "jsonl": [None, None, highest],
        "csv": ["not available", "error", str(highest)],
        "parquet": ["not available", "error", highest],
    }
    assert values == wanted[fmt]


def test_who_sits_where(j1939_log: str, capsys: pytest.CaptureFixture[str]) -> None:
    stats = json.loads(decoded(capsys, j1939_log, "--dbc", VEHICLE, "--j1939", "--stats", "--json"))
    assert [(a["channel"], a["address"], a["value"]) for a in stats["addresses"]] == [("can0", 0x80, CLAIM)]
    for dbc, j1939 in ((VEHICLE, True), (BMS, True), (BMS, False)):
        out = decoded(capsys, j1939_log, "--dbc", dbc, "--stats", *["--j1939"] * j1939)
        assert (f"{CLAIM:016X}" in out) == j1939
        assert ("TP.CM" in out) == (j1939 and dbc == BMS)


def test_who_forgets_j1939_is_told(
    j1939_log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.dbc"  # that does not say whose it is
    own.write_text('VERSION ""\nBU_:\nBO_ 2566844926 Speed: 8 X\n SG_ V : 8|16@1+ (1,0) [0|0] "" X\n')
    for options, told in (([], True), (["--j1939"], False)):
        assert run_command(["decode", j1939_log, "--dbc", str(own), "--stats", "--json", *options]) == 0
        said = capsys.readouterr()
        json.loads(said.out)
        assert ("2 of the unknown frames would be known by their PGN: --j1939" in said.err) == told


def test_a_databases_own_dm1_comes_instead(
    j1939_log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.dbc"
    own.write_text('VERSION ""\nBU_:\nBO_ 2566834942 MyDm1: 8 X\n SG_ Lamp : 2|2@1+ (1,0) [0|0] "" X\n')
    out = decoded(capsys, j1939_log, "--dbc", str(own), "--j1939", "--format", "jsonl")
    assert [json.loads(line)["message"] for line in out.splitlines()] == ["AddressClaimed", "MyDm1", "MyDm1"]

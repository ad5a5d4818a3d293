"""The simulated bus: the same seed, the same bytes; frames that say what the truth says; sane physics."""

import csv
import gzip
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest

from edge.cli import run_command
from edge.errors import AyazError
from sim_bus.battery import Battery
from sim_bus.command import run_simulation
from sim_bus.ecus import CHANNELS
from sim_bus.playback import Playback
from sim_bus.scenario import load_scenario, names
from sim_bus.simulation import TRUTH_COLUMNS

ROOT = Path(__file__).parent.parent.parent
EXTRACT = ROOT / "tests/data/battery/lg_hg2_US06_-10_extract.csv.gz"
SECONDS = 12


@pytest.fixture(scope="module")
def databases() -> dict[str, Any]:
    return {name: cantools.database.load_file(ROOT / f"dbc/{name}.dbc") for name in CHANNELS}


def simulate(
    folder: Path, source: Any, seed: int = 1, seconds: float = SECONDS
) -> tuple[Path, dict[str, Any]]:
    """A log and its truth, by column."""
    log, truth = folder / f"{seed}.log", folder / f"{seed}.csv"
    run_simulation(source, str(log), seed=seed, duration_s=seconds, speed=None, truth_path=truth)
    with truth.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return log, {name: np.array([float(row[name] or "nan") for row in rows]) for name in TRUTH_COLUMNS}


def decoded(log: Path, databases: dict[str, Any]) -> dict[str, list[tuple[float, Any]]]:
    """Every signal of the log: (seconds since its beginning, value), by cantools."""
    found: dict[str, list[tuple[float, Any]]] = {}
    begin = None
    for line in log.read_text().splitlines():
        stamp, channel, frame = line.split()
        t = float(stamp.strip("()"))
        begin = t if begin is None else begin
        frame_id, data = frame.split("#")
        try:
            message = databases[channel].get_message_by_frame_id(int(frame_id, 16))
        except KeyError:
            continue
        for name, value in message.decode(bytes.fromhex(data), decode_choices=False).items():
            found.setdefault(name, []).append((t - begin, value))
    return found


@pytest.mark.parametrize("source", [*names(), EXTRACT], ids=str)
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, source: Any) -> None:
    results = []
    for n, seed in enumerate((1, 1, 2)):
        (tmp_path / str(n)).mkdir()
        log, truth = simulate(tmp_path / str(n), source, seed, 3)
        results.append((log.read_bytes(), {k: v.tolist() for k, v in truth.items()}))
    assert str(results[0]) == str(results[1])
    assert results[0][0] != results[2][0]


def test_frames_say_what_the_truth_says(tmp_path: Path, databases: Any) -> None:
    log, truth = simulate(tmp_path, "winter_day")
    signals = decoded(log, databases)

    def apart(name: str, column: str, sign: float = 1) -> float:
        t, values = np.array(signals[name], dtype=float).T
        near = np.interp(t, truth["t_s"], truth[column])
        return float(np.median(abs(sign * values - near)))

    assert apart("PackVoltage", "voltage_v") < 1.0
    assert apart("PackCurrent", "current_a", -1) < 5  # the sensor has a bias; the bus counts charge positive
    assert apart("WheelBasedVehicleSpeed", "speed_kmh") < 0.5
    shown = np.array([v for _, v in signals["SoC"]]) / 100 * 0.9 + 0.05
    assert abs(shown - truth["bms_soc"].mean()).max() < 0.01
    cells = [
        v
        for name, values in signals.items()
        if name.endswith("_Voltage") and "Cell" in name
        for _, v in values
    ]
    assert len({name for name in signals if "_Cell" in name}) == 352
    assert abs(np.mean(cells) - truth["voltage_v"].mean() / 176) < 0.02


def test_cold_cells_sag_more() -> None:
    sags = []
    for temp in (-30.0, 20.0):
        battery = Battery(np.random.default_rng(3), 0.5, temp)
        rest = battery.cell_v.mean()
        for _ in range(50):
            battery.step(0.1, 120_000, temp)
        sags.append(rest - battery.cell_v.mean())
    assert sags[0] > 2 * sags[1] > 0


def test_playback_brings_the_measured_cells(tmp_path: Path, databases: Any) -> None:
    log, truth = simulate(tmp_path, EXTRACT)
    with gzip.open(EXTRACT, "rt") as file:
        rows = list(csv.DictReader(file))
    data = {name: np.array([float(r[name]) for r in rows]) for name in rows[0]}
    assert np.allclose(truth["soc"], np.interp(truth["t_s"], data["time_s"], data["soc"]), atol=1e-5)
    assert np.allclose(
        truth["voltage_v"], 176 * np.interp(truth["t_s"], data["time_s"], data["voltage_V"]), atol=0.01
    )
    signals = decoded(log, databases)
    last = {n: v[-1][1] for n, v in signals.items() if "_Cell" in n}
    assert len(last) == 352
    assert 0.001 < np.std(list(last.values())) < 0.2


GARBAGE = {
    "no.csv": None,
    "empty.csv": b"",
    "columns.csv": b"a,b\n1,2\n",
    "text.csv": b"time_s,current_A,voltage_V,temperature_C\n0,x,3,20\n",
    "nan.csv": b"time_s,current_A,voltage_V,temperature_C\n0,nan,3,20\n1,1,3,20\n",
    "back.csv": b"time_s,current_A,voltage_V,temperature_C\n1,1,3,20\n0,1,3,20\n",
    "short.csv": b"time_s,current_A,voltage_V,temperature_C\n0,1\n",
    "binary.csv": bytes(range(256)),
    "cut.csv.gz": EXTRACT.read_bytes()[:500],
    "not.csv.gz": b"plain",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_data_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / name
    content = GARBAGE[name]
    if content is not None:
        path.write_bytes(content)
    log, truth = tmp_path / "out.log", tmp_path / "truth.csv"
    assert run_command(["sim", "--playback", str(path), "--to", str(log), "--truth", str(truth)]) == 1
    said = capsys.readouterr().err
    assert str(path) in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out*"))
    assert not truth.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("soc = 2\nabout = 'x'\nambient_degc = 1\nbattery_degc = 1", ":1: soc must lie between 0 and 1"),
        ("about = 'x'", "ambient_degc is missing"),
        ("about = 1\nwhat = 2", ":2: unknown key 'what'"),
        ("about = 'x'\nactivity = 'fly'", ":2: activity must be one of drive, charge"),
        ("= 1", "not TOML"),
    ],
)
def test_wrong_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    assert run_command(["sim", str(path), "--to", str(tmp_path / "x.log"), "--duration", "1"]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "x.log").exists()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["nosuch", "--to", "x.log", "--duration", "1"], 1),
        (["winter_day", "--to", "nosuch:can0"], 1),
        (["winter_day", "--to", "ghost0"], 1),
        (["winter_day", "--to", "/no/such/x.log", "--duration", "1"], 1),
        (["winter_day", "--to", "x.log"], 2),
        (["--to", "x.log"], 2),
        (["winter_day"], 2),
    ],
)
def test_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], status: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run_command(["sim", *arguments]) == status
    assert "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_list_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sim", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names()
    plot = tmp_path / "day.html"
    log = str(tmp_path / "x.log")
    assert run_command(["sim", "winter_day", "--to", log, "--duration", "3", "--plot", str(plot)]) == 0
    assert "<svg" in plot.read_text("utf-8")
    assert all(load_scenario(name).about for name in names())


def test_playback_of_a_file_that_is_gone() -> None:
    with pytest.raises(AyazError, match="cannot be read"):
        Playback(Path("/no/such.csv"), 1)

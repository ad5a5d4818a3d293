"""`ayaz fit-cell` on a cell whose tables are known: what comes out is what went in, as far as the data can say."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge.battery.fitting import axes, cell, defaults, joint
from edge.battery.fitting.command import fit_cell_command
from edge.battery.fitting.run import Fitted, Request, fit_cell
from edge.battery.model import load_cell
from edge.cli import run_command
from edge.errors import DataError

CAPACITY_AH = 4.0
KELVIN = 273.15
SEED = 20260


def ocv(soc, temp_degc):
    """NMC-like, with a small entropy term."""
    soc = np.clip(soc, 0, 1)
    return 3.3 + 0.85 * soc - 0.35 * np.exp(-soc / 0.03) + 2e-4 * (temp_degc - 25) * (soc - 0.5)


def ohms(soc, temp_degc):
    """R0, Rct and those at 20 and 400 s: Arrhenius, and higher when nearly empty."""
    cold = 1 / (temp_degc + KELVIN) - 1 / 298.15
    shape = 1 + 0.6 * np.exp(-soc / 0.08)
    return [
        r * shape * np.exp(e * cold) for r, e in ((0.012, 1500), (0.006, 4000), (0.006, 3500), (0.008, 3500))
    ]


def measured(current, dt, temp_degc, soc, rng, noise_v=0.001):
    """(time, current, voltage, temperature, soc) of the cell from rest."""
    knee = 8 * CAPACITY_AH * np.exp(-4000 * (1 / (temp_degc + KELVIN) - 1 / 298.15))
    bent = knee * np.arcsinh(current / knee)
    counted = soc - np.cumsum(current * dt) / 3600 / CAPACITY_AH
    r = ohms(counted, temp_degc)
    voltage = ocv(counted, temp_degc) - r[0] * current - r[1] * bent
    for ohm, tau in zip(r[2:], (20.0, 400.0), strict=True):
        voltage -= ohm * joint.low_pass(bent, dt, tau)
    voltage += rng.normal(0, noise_v, len(dt))
    return np.cumsum(dt) - dt[0], current, voltage, np.full(len(dt), temp_degc), counted


def slow(temp_degc, rng):
    """C/20 out, a rest, C/20 in."""
    dt = np.full(2400, 60.0)
    current = np.r_[np.full(1170, CAPACITY_AH / 20), np.zeros(60), np.full(1170, -CAPACITY_AH / 20)]
    return measured(current, dt, temp_degc, 1.0, rng)


def drive(temp_degc, rng, hours=1.6):
    """Blocks of random current, three quarters of it out."""
    n = int(hours * 3600)
    blocks = rng.normal(0.55, 0.8, n // 15 + 1).clip(-1.5, 3) * CAPACITY_AH
    current = np.repeat(blocks, 15)[:n]
    current[:60] = 0
    stop = np.argmax(np.cumsum(current) / 3600 > 0.9 * CAPACITY_AH)
    current = current[: stop or n]
    return measured(current, np.ones(len(current)), temp_degc, 1.0, rng)


def pulse_test(temp_degc, rng):
    """Ten steps of 9 % of the charge; at each a pulse of 1 C for 10 s, and rests."""
    part = np.r_[
        np.zeros(300), np.full(10, CAPACITY_AH), np.zeros(60), np.full(324, CAPACITY_AH), np.zeros(1500)
    ]
    current = np.tile(part, 10)
    return measured(current, np.ones(len(current)), temp_degc, 1.0, rng)


def write(path: Path, columns, soc=True) -> Path:
    names = ["time_s", "current_A", "voltage_V", "temperature_C", *(["soc"] if soc else [])]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*(np.round(c, 6).tolist() for c in columns[: len(names)]), strict=True))
    return path


@pytest.fixture(scope="module")
def rng():
    print("seed", SEED)
    return np.random.default_rng(SEED)


@pytest.fixture(scope="module")
def files(tmp_path_factory, rng):
    """kind -> files at 25 and -10 degC; 'unseen' has other drives."""
    folder = tmp_path_factory.mktemp("measured")
    makers = {"ocv": slow, "pulses": pulse_test, "drive": drive, "unseen": drive}
    return {
        kind: [write(folder / f"{kind}_{t:+03d}.csv", make(t, rng)) for t in (25, -10)]
        for kind, make in makers.items()
    }


def request(**files) -> Request:
    return Request("test", "NMC", CAPACITY_AH, **files)


@pytest.fixture(scope="module")
def everything(files) -> Fitted:
    return fit_cell(request(ocv=files["ocv"], pulses=files["pulses"], drive=files["drive"]))


def load(fitted: Fitted, path: Path):
    path.write_text(cell.toml(fitted.cell, "test"), "utf-8")
    return load_cell(path)


def test_the_known_cell_comes_back(everything, tmp_path):
    model = load(everything, tmp_path / "c.toml")
    soc = np.linspace(0.15, 0.95, 17)
    for temp in (25.0, -10.0):
        assert model.at(model.ocv_v, soc, temp) == pytest.approx(ocv(soc, temp), abs=0.004)
        after = 10.0
        truth = ohms(soc, temp)
        expected = (
            truth[0] + truth[1] + truth[2] * (1 - np.exp(-after / 20)) + truth[3] * (1 - np.exp(-after / 400))
        )
        found = model.at(model.r0_ohm, soc, temp) + model.at(model.rct_ohm, soc, temp)
        for table, tau in zip(model.relaxation_ohm, model.tau_s, strict=True):
            found = found + model.at(table, soc, temp) * (1 - np.exp(-after / tau))
        assert found == pytest.approx(expected, rel=0.08)


def test_between_and_below_the_measured_temperatures(everything, tmp_path):
    model = load(everything, tmp_path / "c.toml")
    for temp, limit in ((8.0, 0.15), (-25.0, 0.4)):
        truth = sum(ohms(0.5, temp))
        found = sum(model.at(t, 0.5, temp) for t in (model.r0_ohm, model.rct_ohm, *model.relaxation_ohm))
        assert found == pytest.approx(truth, rel=limit)


def test_the_errors_it_states_are_those_on_an_unseen_drive(everything, files, tmp_path):
    with_unseen = fit_cell(
        request(ocv=files["ocv"], pulses=files["pulses"], drive=[*files["drive"], *files["unseen"]])
    )
    unsure = everything.cell["uncertainty"]
    for f in with_unseen.files:
        if f.name.startswith("unseen"):
            node = int(np.argmin(np.abs(everything.cell["dynamics"]["temp_degc"] - f.temp_degc)))
            stated = 1e3 * np.sqrt(
                sum(unsure[k][node] ** 2 for k in ("model_sd_v", "relaxation_sd_v", "sample_sd_v"))
            )
            assert f.left_out_rms_mv is not None
            assert f.left_out_rms_mv < 3 * stated


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["ocv"], "resistances are typical ones"),
        (["drive"], "no slow charge or discharge"),
        (["pulses"], "no drive"),
        (["ocv", "drive"], "below and above, Arrhenius"),
    ],
)
def test_any_subset_works_and_says_what_is_missing(files, tmp_path, kinds, said):
    fitted = fit_cell(request(**{k: files[k] for k in kinds}))
    model = load(fitted, tmp_path / "c.toml")
    assert any(said in m for m in fitted.missing)
    soc = np.linspace(0.2, 0.9, 8)
    assert model.at(model.ocv_v, soc, 25.0) == pytest.approx(ocv(soc, 25.0), abs=0.03)


def test_resistance_that_was_not_measured_is_uncertain(files, everything):
    guessed = fit_cell(request(ocv=files["ocv"])).cell["uncertainty"]["resistance_rel_sd"]
    assert guessed > 0.3
    assert everything.cell["uncertainty"]["resistance_rel_sd"] == pytest.approx(0.08)


def test_one_temperature_leans_on_arrhenius(files, tmp_path):
    fitted = fit_cell(request(ocv=files["ocv"][:1], drive=files["drive"][:1]))
    model = load(fitted, tmp_path / "c.toml")
    assert any("one temperature" in m for m in fitted.missing)
    assert float(model.at(model.rct_ohm, 0.5, -20.0)) > 2 * float(model.at(model.rct_ohm, 0.5, 25.0))
    here = np.argmin(np.abs(model.temp_degc - 25))
    assert model.sample_sd_v[0] > 2 * model.sample_sd_v[here]


def test_charge_is_counted_where_a_file_has_no_soc(tmp_path, rng):
    paths = {
        "ocv": [write(tmp_path / "slow.csv", slow(25, rng), soc=False)],
        "drive": [write(tmp_path / "full.csv", drive(25, rng), soc=False)],
    }
    columns = drive(25, rng)
    later = [c[1500:] for c in columns]  # it begins in the middle, at rest
    later[1] = np.r_[np.zeros(1800), later[1]]
    rest = measured(later[1], np.ones(len(later[1])), 25.0, float(columns[4][1500]), rng)
    paths["drive"].append(write(tmp_path / "middle.csv", rest, soc=False))
    fitted = fit_cell(request(**paths))
    found = {f.name: f for f in fitted.files}
    assert found["full"].soc_from == pytest.approx(1.0, abs=0.01)
    assert found["middle"].soc_from == pytest.approx(float(columns[4][1500]), abs=0.02)


def test_an_end_step_and_separate_branches(tmp_path, rng):
    time, current, voltage, temp, _ = slow(25, rng)
    parts = {"out": slice(0, 1100), "out_end": slice(1100, 1170), "in": slice(1230, 2400)}
    paths = [
        write(tmp_path / f"{name}.csv", [time[s] - time[s][0], current[s], voltage[s], temp[s]], soc=False)
        for name, s in parts.items()
    ]
    fitted = fit_cell(request(ocv=paths))
    assert any("out_end" in r and "end step" in r for r in fitted.remarks)
    found = {f.name: f for f in fitted.files}
    assert found["in"].soc_from == pytest.approx(0.025, abs=0.03)
    assert found["in"].soc_to == pytest.approx(1.0, abs=0.01)


def test_hysteresis_of_lfp_comes_back(tmp_path, rng):
    half = 0.012
    time, current, voltage, temp, soc = slow(25, rng)
    h, state = np.empty(len(current)), 1.0
    for k, i in enumerate(current):
        keep = np.exp(-abs(i) * 60 * 40 / (3600 * CAPACITY_AH))
        state = keep * state - (1 - keep) * np.sign(i)
        h[k] = state
    path = write(tmp_path / "slow.csv", [time, current, voltage + half * h, temp, soc])
    other = drive(25, rng)
    fitted = fit_cell(
        Request("lfp", "LFP", CAPACITY_AH, ocv=[path], drive=[write(tmp_path / "d.csv", other)])
    )
    model = load(fitted, tmp_path / "c.toml")
    assert np.median(model.at(model.hysteresis_v, np.linspace(0.2, 0.8, 7), 25.0)) == pytest.approx(
        half, abs=0.006
    )


# Bad files


def changed(path: Path, out: Path, change) -> Path:
    lines = path.read_text().splitlines()
    out.write_text("\n".join(change(lines)) + "\n")
    return out


def without_column(lines, name="current_A"):
    k = lines[0].split(",").index(name)
    return [",".join(v for n, v in enumerate(line.split(",")) if n != k) for line in lines]


def backwards(lines):
    return [lines[0], *reversed(lines[1:])]


def with_gap(lines):
    rows = [line.split(",") for line in lines[1:]]
    later = [[str(float(r[0]) + 9000), *r[1:]] for r in rows[800:]]
    return [lines[0], *(",".join(r) for r in rows[:800] + later)]


def turned(lines):
    rows = [line.split(",") for line in lines[1:]]
    return [lines[0], *(",".join([r[0], str(-float(r[1])), *r[2:]]) for r in rows)]


def unknown(lines):
    return [lines[0], *(",".join([line.split(",")[0], "nan", *line.split(",")[2:]]) for line in lines[1:])]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_column, "current_A"),
        (backwards, "time"),
        (with_gap, "gap"),
        (turned, "sign|counts|current"),
        (unknown, "current"),
    ],
)
def test_a_bad_file_is_one_error(files, tmp_path, capsys, change, said):
    bad = changed(files["drive"][0], tmp_path / "bad.csv", change)
    out = tmp_path / "c.toml"
    status = run_command(
        [
            "fit-cell",
            "--name",
            "x",
            "--chemistry",
            "NMC",
            "--capacity-ah",
            "4",
            "--drive",
            str(bad),
            "-o",
            str(out),
        ]
    )
    message = capsys.readouterr().err
    assert status == 1
    assert len(message.strip().splitlines()) == 1
    assert "bad.csv" in message
    assert any(word in message for word in said.split("|"))
    assert not out.exists()


def test_a_drive_from_an_unknown_charge_is_refused(tmp_path, rng):
    columns = [c[2000:] for c in drive(25, rng)]
    path = write(tmp_path / "middle.csv", columns, soc=False)
    with pytest.raises(DataError, match=r"middle.csv: no column soc"):
        fit_cell(request(drive=[path]))


def test_a_soc_that_contradicts_its_current_is_not_used(files, tmp_path):
    rows = [line.split(",") for line in files["drive"][0].read_text().splitlines()]
    for row in rows[-300:]:
        row[4] = "0.9"
    path = tmp_path / "odd.csv"
    path.write_text("\n".join(",".join(r) for r in rows) + "\n")
    remarks: list[str] = []
    found = axes.Axes([axes.read(path, "drive", remarks)], CAPACITY_AH, 0.04, remarks)
    (record,) = found.records()
    assert record.used[:-300].all()
    assert not record.used[-300:].any()
    assert any("contradicts" in r for r in remarks)


# The command


def arguments(files, out, *more):
    return [
        *("--name", "x", "--chemistry", "nmc", "--capacity-ah", "4", "-o", str(out)),
        *("--ocv", str(files["ocv"][0]), "--drive", *(str(p) for p in files["drive"]), *more),
    ]


def test_the_command_with_a_report(files, tmp_path):
    pytest.importorskip("matplotlib")
    out, page = tmp_path / "c.toml", tmp_path / "r.html"
    result = CliRunner().invoke(fit_cell_command, arguments(files, out, "--json", "--report", str(page)))
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [f["name"] for f in report["files"]] == ["ocv_+25", "drive_+25", "drive_-10"]
    assert all(f["rms_mv"] < 10 for f in report["files"])
    assert load_cell(out).name == "x"
    content = page.read_text("utf-8")
    assert content.count("data:image/png;base64,") == 3 + 3
    assert "drive_-10" in content


def test_a_report_into_a_folder(files, tmp_path):
    pytest.importorskip("matplotlib")
    result = CliRunner().invoke(
        fit_cell_command, arguments(files, tmp_path / "c.toml", "--report", str(tmp_path / "r"))
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "r" / "report.html").is_file()
    assert len(list((tmp_path / "r").glob("*.png"))) == 6


def test_without_matplotlib_the_model_is_written_and_it_is_said(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    out, page = tmp_path / "c.toml", tmp_path / "r.html"
    result = CliRunner().invoke(fit_cell_command, arguments(files, out, "--report", str(page)))
    assert result.exit_code == 0, result.output
    assert "matplotlib" in result.stderr
    assert load_cell(out).name == "x"
    assert "drive_-10" in page.read_text("utf-8")


def test_wrong_usage(files, tmp_path):
    base = ["--name", "x", "--chemistry", "NMC", "--capacity-ah", "4", "-o", str(tmp_path / "c.toml")]
    nothing = CliRunner().invoke(fit_cell_command, base)
    assert nothing.exit_code == 2
    assert "nothing to fit" in nothing.output
    twice = CliRunner().invoke(
        fit_cell_command, [*base, "--ocv", str(files["ocv"][0]), "--drive", str(files["ocv"][0])]
    )
    assert twice.exit_code == 2
    assert "given twice" in twice.output


def test_the_help_has_an_example():
    result = CliRunner().invoke(fit_cell_command, ["--help"])
    assert "ayaz fit-cell --name" in result.output


# Parts


def test_the_jacobian_is_the_derivative(everything):
    rows, x = everything.joint.rows, everything.joint.x
    voltage, jac, col, *_ = rows.predict(x)
    some = np.linspace(0, len(voltage) - 1, 60).astype(int)
    layout = rows.layout
    for ids in (layout.ohm.ravel(), layout.delta.ravel(), layout.ocv, layout.nuisance[:, 0]):
        for k in ids[:: max(1, len(ids) // 7)].tolist():
            step = np.zeros(layout.size)
            step[k] = 1e-5
            numeric = (rows.predict(x + step)[0] - rows.predict(x - step)[0]) / 2e-5
            exact = np.where(col == k, jac, 0.0).sum(axis=1)
            if (
                k in layout.ocv
            ):  # the slope of the OCV in the files' own offset is held: a small second-order term
                assert numeric[some] == pytest.approx(exact[some], abs=0.3)
            else:
                assert numeric[some] == pytest.approx(exact[some], abs=1e-6, rel=1e-4)


def test_nodes_cover_what_the_agent_meets():
    found = axes.nodes(np.array([25.0]))
    assert found[0] == -40
    assert found[-1] == 60
    assert 25.0 in found
    assert np.diff(found).max() <= 15


def test_resistance_never_falls_beyond_what_was_seen():
    table = np.array([[[5.0, 1.0, 1.5, 2.0, 4.0, 4.0, 4.0, 3.0, 2.0, 1.0]]])
    held = cell.held(table, [(0.15, 0.85)])
    assert held[0, 0].tolist() == [5.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0]


def slopes(knee_k, ohm_k, nodes, edge_degc):
    """Tables that follow Arrhenius's law with these activation energies (K), and `colder` of them."""
    x = -joint.PER_10K * joint.inverse(nodes)
    knee = 3.0 * np.exp(-knee_k * x)
    ohm = np.stack([0.01 * np.exp(k * x)[:, None] * np.ones(len(joint.R_SOC)) for k in ohm_k])
    return ohm, knee, *cell.colder(ohm, knee, nodes, edge_degc, 1.5)


@pytest.mark.parametrize("seed", range(20))
def test_no_resistance_at_a_usual_current_falls_with_the_cold(seed):
    """Whatever slopes the tables had: here the knee falls faster than some resistances rise."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    nodes = np.array([-40.0, -30, -20, -10, 0, 10, 25, 40, 60])
    ohm_k = rng.uniform(1000, 12_000, 2 + len(joint.TAU_S))
    ohm, knee, new, new_knee = slopes(rng.uniform(3000, 13_000), ohm_k, nodes, -20.0)
    cold = nodes <= -20
    usual = cell.usual_ohm(new, new_knee, 1.5)
    assert (np.diff(usual[cold], axis=0) <= 1e-12).all()
    np.testing.assert_array_equal(new[:, ~cold], ohm[:, ~cold])
    np.testing.assert_array_equal(new_knee[~cold], knee[~cold])
    steps = np.diff(joint.inverse(nodes[cold])) * joint.PER_10K
    for table in (np.log(new_knee[cold]), -np.log(usual[cold, 4])):
        assert (np.diff(table) <= cell.MOST_KINETIC_K * steps + 1e-9).all()
        assert (np.diff(table) >= -1e-9).all()


def test_a_cell_that_follows_arrhenius_goes_on_so():
    nodes = np.array([-40.0, -30, -20, -10, 0, 10, 25, 40, 60])
    ohm, knee, new, new_knee = slopes(0.0, [2000.0, 4000, 3000, 3000, 3500, 5000], nodes, -20.0)
    np.testing.assert_allclose(new, ohm, rtol=1e-9)
    np.testing.assert_allclose(new_knee, knee, rtol=1e-9)


def test_doubt_grows_with_the_distance_to_what_was_met():
    prior = defaults.prior(defaults.CHEMISTRIES["NMC"])
    nodes = np.array([-40.0, -25, -10, 5, 25, 45])
    doubt = cell.doubt(nodes, np.array([-10.0, 25.0, 30.0]), prior)
    assert doubt[2] == doubt[4] == 0
    assert doubt[3] > 0
    assert doubt[5] > 0
    assert 0 < doubt[1] < doubt[0] < 1.5


def test_the_errors_of_a_cold_that_was_not_met_are_stated_larger(everything):
    table, nodes = everything.cell["uncertainty"], everything.joint.layout.temp_degc
    coldest = min(r.temp_degc.min() for r in everything.records if r.kind != "ocv")
    edge = int(np.argmin(np.abs(nodes - coldest)))
    for key in ("model_sd_v", "relaxation_sd_v", "sample_sd_v"):
        assert (np.diff(table[key][: edge + 1]) < 0).all(), key

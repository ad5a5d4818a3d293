"""Cell models: the three that we ship are sane, and a wrong file is told all of its mistakes at once."""

import re
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.battery.model import cell_names, load_cell
from edge.battery.resistance import pulse_resistance_ohm
from edge.errors import CellModelError

Data = dict[str, Any]
SHIPPED = ("a123_26650", "lfp_280", "lfp_bus", "lg_hg2")


def shipped(name: str) -> Data:
    text = (resources.files("edge.battery.cells") / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def toml(value: Any) -> str:
    """Enough of TOML for these files; floats by repr, so NaN and infinity too."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {toml(v)}' for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else repr(value)


def written(folder: Path, data: Data) -> Path:
    path = folder / "cell.toml"
    path.write_text("\n".join(f"{k} = {toml(v)}" for k, v in data.items()), "utf-8")
    return path


def test_shipped() -> None:
    assert tuple(cell_names()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_ocv_rises_and_stays_within_the_limits(name: str) -> None:
    m = load_cell(name)
    assert (np.diff(m.ocv_v, axis=1) > 0).all()
    assert (m.ocv_v > 0.75 * m.voltage_min_v).all(), "an empty cell rests below the limit under load"
    assert (m.ocv_v < m.voltage_max_v + 0.05).all(), "colder than measured, the shape's end is carried on"
    assert (m.hysteresis_v >= 0).all()
    measured = name != "lfp_280"  # in the cold, half of what its slow tests leave apart is diffusion
    assert m.hysteresis_v[:, (m.soc >= 0.1) & (m.soc <= 0.9)].max() <= (0.025 if measured else 0.07)
    assert m.hysteresis_v.max() <= (0.05 if measured else 0.07)
    assert (m.hysteresis_v.max() > 0) == (m.chemistry == "LFP")


@pytest.mark.parametrize("name", SHIPPED)
def test_resistances_grow_in_the_cold(name: str) -> None:
    """What a bus meets, over 2, 10 and 60 s at C/2, from 40 to -40 °C: several times as much at -20 °C, and not
    without limit beyond. (A table alone may fall: the current that it meets is bent by the knee.)"""
    m = load_cell(name)
    for table in (m.r0_ohm, m.rct_ohm, *m.relaxation_ohm):
        assert (table > 0).all()
        assert np.isfinite(table).all()
    temps, soc = np.arange(40.0, -41.0, -5.0)[:, None], np.linspace(0.1, 0.95, 18)[None, :]
    for seconds in (2.0, 10.0, 60.0):
        ohm = pulse_resistance_ohm(m, soc, temps, m.capacity_ah / 2, seconds)
        assert (np.diff(ohm, axis=0) > 0).all(), seconds
    middle = pulse_resistance_ohm(m, 0.5, [25.0, -20.0, -30.0], m.capacity_ah / 2, 10.0)
    assert 5 * middle[0] < middle[1] < middle[2] < 6 * middle[1]


@pytest.mark.parametrize("name", SHIPPED)
def test_doubt_grows_outside_what_was_measured(name: str) -> None:
    m = load_cell(name)
    assert m.model_sd_v[0] > m.model_sd_v[list(m.temp_degc).index(-20)]
    assert all("used_for" in s and "licence" in s for s in m.sources)


def test_limits_have_defaults_and_keep_what_the_file_says(tmp_path: Path) -> None:
    data = shipped("a123_26650") | {"limits": {}}
    plain = load_cell(written(tmp_path, data))
    assert plain.limits.discharge_max_a == plain.limits.discharge_pulse_a == 3 * plain.capacity_ah
    assert plain.limits.charge_max_a == plain.limits.charge_pulse_a == plain.capacity_ah
    assert (plain.limits.temp_min_degc, plain.limits.temp_max_degc) == (-30, 60)
    assert plain.limits.charge_temp_min_degc == 0
    assert (plain.limits.soc_min, plain.limits.soc_max) == (0, 1)
    del data["limits"]
    assert load_cell(written(tmp_path, data)).limits == plain.limits
    said = {"discharge_max_a": 2.0, "discharge_pulse_a": 4.0, "charge_temp_min_degc": -10.0, "soc_min": 0.05}
    cell = load_cell(written(tmp_path, data | {"limits": said}))
    assert {k: getattr(cell.limits, k) for k in said} == said
    assert cell.limits.charge_max_a == plain.limits.charge_max_a


def test_a_cell_without_relaxation_or_hysteresis_is_refused_or_read(tmp_path: Path) -> None:
    """No hysteresis is a kind of cell, and then no rate is asked for; fewer time constants are fine, none are not."""
    data = shipped("a123_26650")
    del data["ocv"]["hysteresis_v"], data["hysteresis"]
    data["dynamics"]["tau_s"] = data["dynamics"]["tau_s"][:1]
    data["dynamics"]["relaxation_ohm"] = data["dynamics"]["relaxation_ohm"][:1]
    m = load_cell(written(tmp_path, data))
    assert not m.hysteresis_v.any()
    assert m.relaxation_ohm.shape == (1, len(m.temp_degc), len(m.soc))
    data["dynamics"]["tau_s"] = []
    with pytest.raises(CellModelError, match="tau_s must"):
        load_cell(written(tmp_path, data))


def test_at_is_exact_on_the_grid_and_held_outside() -> None:
    m = load_cell("lg_hg2")
    np.testing.assert_allclose(m.at(m.ocv_v, m.soc, float(m.temp_degc[7])), m.ocv_v[7], rtol=1e-12)
    assert m.at(m.ocv_v, -0.5, -100.0) == m.ocv_v[0, 0]
    assert m.at(m.ocv_v, 1.5, 100.0) == m.ocv_v[-1, -1]


def test_a_file_reads_as_the_model_of_that_name(tmp_path: Path) -> None:
    ours, theirs = load_cell("a123_26650"), load_cell(written(tmp_path, shipped("a123_26650")))
    np.testing.assert_array_equal(ours.ocv_v, theirs.ocv_v)
    np.testing.assert_array_equal(ours.relaxation_ohm, theirs.relaxation_ohm)
    assert ours.fingerprint != theirs.fingerprint, "another text, another memory"


def changed(table: str, key: str, value: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        (data[table] if table else data)[key] = value

    return change


def dropped(table: str, key: str) -> Callable[[Data], None]:
    def drop(data: Data) -> None:
        del (data[table] if table else data)[key]

    return drop


def row_swapped(data: Data) -> None:
    data["ocv"]["voltage_v"][0].reverse()


def reversed_in(table: str, key: str) -> Callable[[Data], None]:
    def turn(data: Data) -> None:
        data[table][key].reverse()

    return turn


def row_shortened(data: Data) -> None:
    data["dynamics"]["rct_ohm"][2].pop()


def process_dropped(data: Data) -> None:
    data["dynamics"]["relaxation_ohm"].pop()


def five_processes(data: Data) -> None:
    data["dynamics"]["tau_s"] = [3.0, 30.0, 300.0, 3000.0, 9000.0]
    data["dynamics"]["relaxation_ohm"].append(data["dynamics"]["relaxation_ohm"][0])


MISTAKES: dict[str, Callable[[Data], None]] = {
    "name must be a text": changed("", "name", 5),
    "chemistry must be a text": dropped("", "chemistry"),
    "summary must be a text": changed("", "summary", ""),
    "capacity_ah must be a number from 0.01": changed("", "capacity_ah", -3.0),
    "capacity_ah must be a number": changed("", "capacity_ah", "3 Ah"),
    "capacity_ah must be a number from 0.01 to 10000, not nan": changed("", "capacity_ah", float("nan")),
    "capacity_rel_sd must be a number": changed("", "capacity_rel_sd", True),
    "voltage_min_v must be less": changed("", "voltage_min_v", 4.9),
    "voltage_max_v must be a number": changed("", "voltage_max_v", float("inf")),
    "sources must name": changed("", "sources", []),
    "sources must name where": changed("", "sources", "my lab"),
    "the table [ocv] is missing": dropped("", "ocv"),
    "the table [dynamics] is missing": changed("", "dynamics", 1),
    "the table [uncertainty] is missing": dropped("", "uncertainty"),
    "the table [hysteresis] is missing": dropped("", "hysteresis"),
    "hysteresis.rate must be a number": changed("hysteresis", "rate", 0),
    "ocv.soc must rise": changed("ocv", "soc", [0, 0.5, 0.5, 1]),
    "ocv.soc must begin with 0": changed("ocv", "soc", [0.1, 0.5, 1]),
    "ocv.soc must lie within": changed("ocv", "soc", [0, 50, 100]),
    "ocv.temp_degc must rise": changed("ocv", "temp_degc", []),
    "ocv.temp_degc must be some numbers": changed("ocv", "temp_degc", ["cold", "warm"]),
    "ocv.voltage_v must rise with soc": row_swapped,
    "ocv.voltage_v must lie within": changed("ocv", "voltage_v", [[float("nan")] * 60] * 10),
    "ocv.voltage_v must be": changed("ocv", "voltage_v", 3.3),
    "ocv.hysteresis_v must be": changed("ocv", "hysteresis_v", [0.01]),
    "dynamics.temp_degc must rise": reversed_in("dynamics", "temp_degc"),
    "dynamics.soc must begin with 0 and end with 1": changed("dynamics", "soc", [0.1, 0.5, 1]),
    "dynamics.r0_ohm must lie within": changed("dynamics", "r0_ohm", [[-0.01] * 10] * 10),
    "dynamics.r0_ohm must be 10 by 10 numbers": dropped("dynamics", "r0_ohm"),
    "dynamics.rct_ohm must be": row_shortened,
    "dynamics.rct_ohm must lie within": changed("dynamics", "rct_ohm", [[0.0] * 10] * 10),
    "dynamics.tau_s must rise": reversed_in("dynamics", "tau_s"),
    "dynamics.tau_s must be some numbers": dropped("dynamics", "tau_s"),
    "dynamics.tau_s must lie within": changed("dynamics", "tau_s", [0.0, 30.0, 300.0, 3000.0]),
    "dynamics.tau_s must be at most 4 numbers": five_processes,
    "dynamics.relaxation_ohm must be 4 by 10 by 10 numbers": dropped("dynamics", "relaxation_ohm"),
    "dynamics.relaxation_ohm must be 4 by 10 by 10 numbers, not 3": process_dropped,
    "dynamics.relaxation_ohm must lie within": changed("dynamics", "relaxation_ohm", [[[2e4] * 10] * 10] * 4),
    "dynamics.knee_a must be 10 numbers": dropped("dynamics", "knee_a"),
    "dynamics.knee_a must lie within": changed("dynamics", "knee_a", [0.0] * 10),
    "uncertainty.model_sd_v must be": changed("uncertainty", "model_sd_v", 0.01),
    "uncertainty.model_sd_v must lie within": changed("uncertainty", "model_sd_v", [0.0] * 10),
    "uncertainty.relaxation_sd_v must be 10 numbers": changed("uncertainty", "relaxation_sd_v", [0.01] * 9),
    "uncertainty.relaxation_sd_v must be": dropped("uncertainty", "relaxation_sd_v"),
    "uncertainty.sample_sd_v must be": changed("uncertainty", "sample_sd_v", [True] * 10),
    "uncertainty.sample_sd_v must lie within": changed("uncertainty", "sample_sd_v", [float("nan")] * 10),
    "uncertainty.model_tau_s must be": changed("uncertainty", "model_tau_s", 0),
    "uncertainty.relaxation_tau_s must be": dropped("uncertainty", "relaxation_tau_s"),
    "uncertainty.resistance_rel_sd must be": changed("uncertainty", "resistance_rel_sd", 0.0),
    "uncertainty.resistance_tau_s must be": changed("uncertainty", "resistance_tau_s", "slow"),
    "uncertainty.hysteresis_sd must be": changed("uncertainty", "hysteresis_sd", -0.1),
    "uncertainty.axis_sd must be": changed("uncertainty", "axis_sd", 3),
    "uncertainty.current_offset_c must be": dropped("uncertainty", "current_offset_c"),
    "uncertainty.current_gain_sd must be": changed("uncertainty", "current_gain_sd", 1.0),
    "limits.discharge_max_a must be": changed("", "limits", {"discharge_max_a": -5.0}),
    "limits.charge_max_a must be": changed("", "limits", {"charge_max_a": "1C"}),
    "limits.discharge_pulse_a must be": changed("", "limits", {"discharge_pulse_a": 1e9}),
    "limits.charge_pulse_a must be": changed("", "limits", {"charge_pulse_a": float("nan")}),
    "limits.temp_min_degc must be less than temp_max_degc": changed("", "limits", {"temp_min_degc": 70.0}),
    "limits.temp_max_degc must be": changed("", "limits", {"temp_max_degc": 300}),
    "limits.charge_temp_min_degc must be": changed("", "limits", {"charge_temp_min_degc": [0.0]}),
    "limits.soc_min must be less than soc_max": changed("", "limits", {"soc_min": 0.9, "soc_max": 0.1}),
    "limits.soc_max must be": changed("", "limits", {"soc_max": 90}),
    "the table [limits] is missing": changed("", "limits", 3),
}


@pytest.mark.parametrize("says", MISTAKES)
def test_one_mistake(tmp_path: Path, says: str) -> None:
    """It is named with its file and key, and nothing that is right is blamed."""
    data = shipped("a123_26650")
    MISTAKES[says](data)
    path = written(tmp_path, data)
    with pytest.raises(CellModelError, match=re.escape(f"{path}: ")) as caught:
        load_cell(path)
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    table = says.removeprefix("the table [").split(".")[0].split("]")[0].split(" ")[0]
    assert all(table in mistake for mistake in text.removeprefix(f"{path}: ").split("; "))


def test_every_mistake_at_once(tmp_path: Path) -> None:
    data = shipped("a123_26650")
    wanted = [
        "name must be a text",
        "capacity_ah must be a number from 0.01",
        "sources must name",
        "ocv.soc must rise",
        "hysteresis.rate must be a number",
        "dynamics.rct_ohm must be",
        "dynamics.tau_s must lie within",
        "uncertainty.axis_sd must be",
    ]
    for says in wanted:
        MISTAKES[says](data)
    with pytest.raises(CellModelError) as caught:
        load_cell(written(tmp_path, data))
    assert all(says in str(caught.value) for says in wanted)
    assert len(str(caught.value).split("; ")) == len(wanted)


def test_an_empty_file_lacks_everything(tmp_path: Path) -> None:
    path = tmp_path / "cell.toml"
    path.write_text("")
    with pytest.raises(
        CellModelError, match=r"name must be.*capacity_ah.*\[ocv\].*\[dynamics\]|\[ocv\].*name"
    ):
        load_cell(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name = ", "not valid TOML"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a = 1\na = 2", "not valid TOML"),
    ],
)
def test_no_toml(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "cell.toml"
    path.write_bytes(content)
    with pytest.raises(CellModelError, match=says):
        load_cell(path)


def test_no_such_cell(tmp_path: Path) -> None:
    for name in ("lg_hg3", "", tmp_path, tmp_path / "x.toml"):
        with pytest.raises(CellModelError, match="a123_26650, lfp_280, lfp_bus, lg_hg2"):
            load_cell(name)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text("ab;", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=ANYTHING.filter(lambda v: v is not None), pick=st.integers(0, 1000))
def test_any_value_anywhere_is_a_model_or_one_error(tmp_path: Path, value: Any, pick: int) -> None:
    data = shipped("a123_26650")
    places = [(t, k) for t in ("ocv", "dynamics", "hysteresis", "uncertainty") for k in data[t]]
    places += [("", k) for k in data]
    changed(*places[pick % len(places)], value)(data)
    try:
        text = written(tmp_path, data)
        tomllib.loads(text.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeEncodeError, ValueError):
        return
    try:
        m = load_cell(text)
    except CellModelError:
        return
    assert np.isfinite(m.ocv_v).all()
    assert np.isfinite(m.relaxation_ohm).all()

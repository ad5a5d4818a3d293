"""Cell models: the three that we ship are sane, and a wrong file is told all of its mistakes at once."""

import itertools
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
from edge.errors import CellModelError

Data = dict[str, Any]
SHIPPED = ("a123_26650", "lfp_bus", "lg_hg2")


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
    assert m.hysteresis_v.max() <= 0.025
    assert (m.hysteresis_v.max() > 0) == (m.chemistry == "LFP")


@pytest.mark.parametrize("name", SHIPPED)
def test_resistances_grow_in_the_cold(name: str) -> None:
    """Ohmic from 40 to -30 °C; all of it from 25 °C down. Below 10 % the cold drives never came."""
    m = load_cell(name)
    for table in (m.r0_ohm, m.r1_ohm, m.r2_ohm):
        assert (table > 0).all()
        assert np.isfinite(table).all()
    soc = np.linspace(0.1, 0.95, 18)
    total = m.r0_ohm + m.r1_ohm + m.r2_ohm
    for table, temps in ((m.r0_ohm, (40, 25, 10, 0, -10, -20, -30)), (total, (25, 10, 0, -10, -20, -30))):
        by_temp = [m.at(table, soc, float(t)) for t in temps]
        for warm, cold in itertools.pairwise(by_temp):
            assert (cold > warm).all()
    # several times as much at -20 °C, more at -30 °C, and not without limit
    middle = m.at(total, 0.5, np.array([25.0, -20.0, -30.0]))
    assert 5 * middle[0] < middle[1] < middle[2] < 6 * middle[1]


@pytest.mark.parametrize("name", SHIPPED)
def test_doubt_grows_outside_what_was_measured(name: str) -> None:
    m = load_cell(name)
    assert m.model_sd_v[0] > m.model_sd_v[list(m.temp_degc).index(-20)]
    assert all("used_for" in s and "licence" in s for s in m.sources)


def test_at_is_exact_on_the_grid_and_held_outside() -> None:
    m = load_cell("lg_hg2")
    np.testing.assert_allclose(m.at(m.ocv_v, m.soc, float(m.temp_degc[7])), m.ocv_v[7], rtol=1e-12)
    assert m.at(m.ocv_v, -0.5, -100.0) == m.ocv_v[0, 0]
    assert m.at(m.ocv_v, 1.5, 100.0) == m.ocv_v[-1, -1]


def test_a_file_reads_as_the_model_of_that_name(tmp_path: Path) -> None:
    ours, theirs = load_cell("a123_26650"), load_cell(written(tmp_path, shipped("a123_26650")))
    np.testing.assert_array_equal(ours.ocv_v, theirs.ocv_v)
    np.testing.assert_array_equal(ours.r2_ohm, theirs.r2_ohm)
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


def row_shortened(data: Data) -> None:
    data["dynamics"]["r1_ohm"][2].pop()


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
    "ocv.voltage_v must lie within": changed("ocv", "voltage_v", [[float("nan")] * 60] * 8),
    "ocv.voltage_v must be": changed("ocv", "voltage_v", 3.3),
    "ocv.hysteresis_v must be": changed("ocv", "hysteresis_v", [0.01]),
    "dynamics.r0_ohm must lie within": changed("dynamics", "r0_ohm", [[-0.01] * 14] * 5),
    "dynamics.r1_ohm must be": row_shortened,
    "dynamics.r2_ohm must be": dropped("dynamics", "r2_ohm"),
    "dynamics.tau1_s must be 5 numbers": changed("dynamics", "tau1_s", [30]),
    "dynamics.tau2_s must lie within": changed("dynamics", "tau2_s", [0] * 5),
    "dynamics.knee_a must be 5 numbers": dropped("dynamics", "knee_a"),
    "uncertainty.model_sd_v must be": changed("uncertainty", "model_sd_v", 0.01),
    "uncertainty.sample_sd_v must be": changed("uncertainty", "sample_sd_v", [True] * 5),
    "uncertainty.axis_sd must be": changed("uncertainty", "axis_sd", 3),
    "uncertainty.current_offset_c must be": dropped("uncertainty", "current_offset_c"),
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
        "dynamics.r1_ohm must be",
        "dynamics.tau2_s must lie within",
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
        with pytest.raises(CellModelError, match="a123_26650, lfp_bus, lg_hg2"):
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
    assert np.isfinite(m.r2_ohm).all()

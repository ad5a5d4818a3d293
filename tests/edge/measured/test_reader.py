"""Files of measurements: both sets of names, three containers; what is wrong with all of a file is one error with its
place, what is wrong with some rows is counted and unknown."""

import dataclasses
import gzip
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.battery.against_cell import check_against_cell
from edge.battery.model import load_cell
from edge.errors import DataError
from edge.measured import FLAGS, Measured, load_measured

SEED = 3
GOOD = "time_s,current_A,voltage_V,temperature_C,soc\n0,1.5,3.7,25,0.5\n1,-2,3.75,,\n1.5,0,3.74,24.5,0.49\n"
LONG = GOOD + "".join(f"{k}.5,0,3.74,24.5,0.49\n" for k in range(2, 900))
BDF = "Test Time / s,Voltage / V,Current / A,Surface Temperature / degC\n0,3.7,-1.5,25\n1,3.75,2,24\n"


def csv(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def checked(data: Measured) -> None:
    np.testing.assert_array_equal(data.time_s, [0, 1, 1.5])
    np.testing.assert_array_equal(data.current_a, [1.5, -2, 0])
    np.testing.assert_array_equal(data.voltage_v, [3.7, 3.75, 3.74])
    np.testing.assert_array_equal(data.temp_degc, [25, np.nan, 24.5])
    assert data.soc is not None
    np.testing.assert_array_equal(data.soc, [0.5, np.nan, 0.49])


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\n\n", 2),
        GOOD.replace(",", " ,"),
        gzip.compress(GOOD.encode()),
    ],
    ids=["plain", "bom", "crlf", "empty lines", "spaces", "gzip"],
)
def test_csv(tmp_path: Path, content: str | bytes) -> None:
    checked(load_measured(csv(tmp_path, content)))


def test_parquet(tmp_path: Path) -> None:
    """Integers too; a column of text beside them is none of ours."""
    table = pa.table(
        {
            "time_s": [0.0, 1.0, 1.5],
            "current_A": pa.array([1.5, -2, 0], pa.float32()),
            "voltage_V": [3.7, 3.75, 3.74],
            "temperature_C": [25.0, None, 24.5],
            "soc": [0.5, None, 0.49],
            "note": ["a", "b", "c"],
        }
    )
    pq.write_table(table, tmp_path / "data.parquet")
    checked(load_measured(tmp_path / "data.parquet"))


@pytest.mark.parametrize(
    "header",
    [
        BDF.splitlines()[0],
        "test_time_second,voltage_volt,current_ampere,surface_temperature_celsius",
        "test_time_second,voltage_volt,current_ampere,ambient_temperature_celsius",
        "Test Time / s,Voltage / V,Current / A,Temperature T1 / degC",
    ],
)
def test_battery_data_format_is_positive_on_charge(tmp_path: Path, header: str) -> None:
    data = load_measured(csv(tmp_path, BDF.replace(BDF.splitlines()[0], header)))
    np.testing.assert_array_equal(data.current_a, [1.5, -2])
    np.testing.assert_array_equal(data.voltage_v, [3.7, 3.75])
    np.testing.assert_array_equal(data.temp_degc, [25, 24])
    assert data.soc is None


def test_surface_goes_before_ambient(tmp_path: Path) -> None:
    text = (
        "test_time_second,voltage_volt,current_ampere,ambient_temperature_celsius,surface_temperature_celsius"
    )
    assert load_measured(csv(tmp_path, text + "\n0,3.7,0,-20,-15\n")).temp_degc[0] == -15


def test_without_temperature_and_soc(tmp_path: Path) -> None:
    data = load_measured(csv(tmp_path, "time_s,current_A,voltage_V,soc\n0,0,3.7,\n2,0,3.7,\n"))
    assert np.isnan(data.temp_degc).all()
    assert data.soc is None, "a column that is empty tells no soc"


def checked_bounds(data: Measured) -> None:
    """What Measured promises of any file."""
    assert np.isfinite(data.time_s).all()
    assert (np.diff(data.time_s) >= 0).all()
    for values in (data.current_a, data.voltage_v, data.temp_degc):
        assert len(values) == len(data.time_s)
        assert not np.isinf(values).any()
    assert ((data.voltage_v > 0) | np.isnan(data.voltage_v)).all()
    assert set(data.flags) <= set(FLAGS)
    assert all(count > 0 for count in data.flags.values())


def long_csv(folder: Path, rows: int = 1000, **changed: dict[int, float | str]) -> Path:
    """A drive of an invented cell, in which some values of some rows are changed."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    current = rng.uniform(-2, 4, rows // 10 + 1)[np.arange(rows) // 10]
    charge = np.cumsum(current) / 3600
    columns: dict[str, list[float | str]] = {
        "time_s": np.arange(rows).tolist(),
        "current_A": current.round(4).tolist(),
        "voltage_V": (3.9 - 0.3 * charge - 0.03 * current).round(4).tolist(),
        "temperature_C": [20.0] * rows,
        "soc": (0.8 - charge / 3).round(5).tolist(),
    }
    for name, values in changed.items():
        for row, value in values.items():
            columns[name][row] = value
    lines = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return csv(folder, "\n".join([",".join(columns), *lines]))


FLAGGED: dict[str, tuple[dict[str, dict[int, float | str]], dict[str, int], dict[str, list[int]]]] = {
    "nothing": ({}, {}, {}),
    "NaN": (
        {"current_A": {3: "nan", 4: ""}, "voltage_V": {5: "n/a"}, "temperature_C": {6: "NULL"}},
        {"current_unknown": 2, "voltage_unknown": 1, "temperature_unknown": 1},
        {"current_a": [3, 4], "voltage_v": [5], "temp_degc": [6]},
    ),
    "impossible": (
        {
            "voltage_V": {3: 65.535, 4: 0, 5: -1},
            "current_A": {6: "inf", 7: -1e9},
            "temperature_C": {8: -273, 9: 3000},
        },
        {"voltage_impossible": 3, "current_impossible": 2, "temperature_impossible": 2},
        {"voltage_v": [3, 4, 5], "current_a": [6, 7], "temp_degc": [8, 9]},
    ),
    "soc": ({"soc": {3: 1.5, 4: -1, 5: ""}}, {"soc_impossible": 2}, {"soc": [3, 4, 5]}),
    "a clock that jerks": (
        {"time_s": {10: 4, 20: "nan", 30: 29}},
        {"time_backwards": 1, "time_unknown": 1, "time_repeated": 1},
        {name: [10, 20] for name in ("current_a", "voltage_v", "temp_degc", "soc")},
    ),
    "no time at first": (
        {"time_s": {0: ""}},
        {"time_unknown": 1},
        {name: [0] for name in ("current_a", "voltage_v", "temp_degc", "soc")},
    ),
}


@pytest.mark.parametrize("kind", FLAGGED)
def test_flagged_rows(tmp_path: Path, kind: str) -> None:
    """Counted, and unknown; every other value stays, and no row is lost."""
    changed, flags, unknown = FLAGGED[kind]
    good, data = load_measured(long_csv(tmp_path)), load_measured(long_csv(tmp_path, **changed))
    checked_bounds(data)
    assert data.flags == flags
    assert len(data.time_s) == 1000
    for name in ("current_a", "voltage_v", "temp_degc", "soc"):
        expected = getattr(good, name).copy()
        expected[unknown.get(name, [])] = np.nan
        np.testing.assert_array_equal(getattr(data, name), expected)


def test_gaps_are_counted_and_kept(tmp_path: Path) -> None:
    whole = long_csv(tmp_path).read_text().splitlines()
    hours = [f"{float(r.split(',')[0]) + 7200},{r.split(',', 1)[1]}" for r in whole[501:]]
    data = load_measured(csv(tmp_path, "\n".join([*whole[:501], *hours])))
    assert data.flags == {"gaps": 1}
    assert np.flatnonzero(data.after_gap).tolist() == [500]
    assert data.time_s[500] - data.time_s[499] == 7201
    slow = "\n".join(["time_s,current_A,voltage_V", *(f"{3600 * k},0,3.7" for k in range(50))])
    assert load_measured(csv(tmp_path, slow)).flags == {"temperature_unknown": 50}, "its usual pace is no gap"


def test_a_turned_current_is_refused_and_can_be_turned(tmp_path: Path) -> None:
    path = long_csv(tmp_path)
    right = load_measured(path)
    turned = csv(tmp_path, "\n".join(_turned(path.read_text().splitlines())), "turned.csv")
    with pytest.raises(
        DataError, match=r"turned.csv: current_A has its sign reversed: .* rises when the current"
    ) as caught:
        load_measured(turned)
    assert str(caught.value).endswith("turn it with --current-sign charge-positive")
    told = load_measured(turned, "charge-positive")
    np.testing.assert_array_equal(told.current_a, right.current_a)
    assert told.flags == {}
    assert load_measured(turned, "discharge-positive").flags == {"current_sign_doubtful": 1}, "told is told"
    assert load_measured(path, "charge-positive").flags == {"current_sign_doubtful": 1}


def test_a_turned_current_of_the_battery_data_format(tmp_path: Path) -> None:
    """Its sign is the other one, so what is wrong there is right here."""
    rows = long_csv(tmp_path).read_text().splitlines()
    rows[0] = "Test Time / s,Current / A,Voltage / V,Surface Temperature / degC,soc"
    with pytest.raises(DataError, match="turn it with --current-sign discharge-positive"):
        load_measured(csv(tmp_path, "\n".join(rows)))
    assert load_measured(csv(tmp_path, "\n".join(_turned(rows)))).flags == {}


def _turned(rows: list[str]) -> list[str]:
    cells = [row.split(",") for row in rows[1:]]
    return [rows[0], *(",".join([c[0], str(-float(c[1])), *c[2:]]) for c in cells)]


def test_depth_of_discharge_is_refused(tmp_path: Path) -> None:
    rows = [row.split(",") for row in long_csv(tmp_path).read_text().splitlines()]
    text = "\n".join([",".join(rows[0]), *(",".join([*r[:4], f"{1 - float(r[4]):.5f}"]) for r in rows[1:])])
    with pytest.raises(DataError, match="is it a depth of discharge"):
        load_measured(csv(tmp_path, text))


def test_quotes_and_many_rows(tmp_path: Path) -> None:
    """More than are taken at once, each value in quotes, with text beside them that has commas."""
    rows = [f'"{k}","1.5","3.7","a, b"' for k in range(70_000)]
    data = load_measured(csv(tmp_path, "\n".join(['"time_s","current_A","voltage_V","note"', *rows])))
    np.testing.assert_array_equal(data.time_s, np.arange(70_000))
    np.testing.assert_array_equal(data.current_a, np.full(70_000, 1.5))
    rows[69_000] = "69000,high,3.7,x"
    with pytest.raises(DataError, match=r"data\.csv:69002: current_A is not a number"):
        load_measured(csv(tmp_path, "\n".join(["time_s,current_A,voltage_V,note", *rows])))


def test_a_line_without_an_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv"
    with gzip.open(path, "wb") as file:
        file.write(b"time_s,current_A,voltage_V\n")
        for _ in range(30):
            file.write(b"0" * (1 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot be read"):
        load_measured(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20


# `check_against_cell`


def scaled(folder: Path, **factor: float) -> tuple[Path, Measured]:
    """An hour of a sensible drive at 3 Ah, of which some columns are multiplied."""
    path = long_csv(folder, 3000)
    data = load_measured(path)
    arrays = {
        name: factor.get(name, 1.0) * getattr(data, name) for name in ("time_s", "current_a", "voltage_v")
    }
    return path, dataclasses.replace(data, **arrays)


CELL = load_cell("lg_hg2")


def test_a_sensible_drive_is_left_as_it_is(tmp_path: Path) -> None:
    path, data = scaled(tmp_path)
    found = check_against_cell(path, data, CELL)
    np.testing.assert_array_equal(found.current_a, data.current_a)
    assert found.flags == {}


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        ({"current_a": 1000.0}, "is it in mA"),
        ({"current_a": 300.0}, "or that of many cells"),
        ({"time_s": 1000.0}, "is time_s in s"),
        ({"time_s": 1 / 60}, "not min or h"),
        ({"voltage_v": 0.4}, "another cell"),
        ({"current_a": 0.001}, "soc moves by"),
    ],
)
def test_units_that_the_cell_betrays(tmp_path: Path, factor: dict[str, float], says: str) -> None:
    path, data = scaled(tmp_path, **factor)
    with pytest.raises(DataError, match=says) as caught:
        check_against_cell(path, data, CELL)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_the_capacity_that_was_given_counts(tmp_path: Path) -> None:
    path, data = scaled(tmp_path, current_a=300.0)
    check_against_cell(path, data, CELL, 900.0)


def test_spikes_beyond_the_cell_are_unknown(tmp_path: Path) -> None:
    """One in ten of each, far more than a sensor has, and they must not look like another unit."""
    path, data = scaled(tmp_path)
    data.current_a[::20] = 6553.5
    data.voltage_v[::20] = 5.0
    found = check_against_cell(path, data, CELL)
    assert found.flags == {"voltage_impossible": 150, "current_impossible": 150}
    assert np.isnan(found.current_a[::20]).all()
    assert np.isnan(found.voltage_v[::20]).all()
    assert np.isfinite(found.current_a).sum() == len(data.time_s) - 150


BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "no column time_s, current_A, voltage_V"),
    "a row above the header": ("\n1,2,3\n", "no column time_s, current_A, voltage_V"),
    "only a header": (GOOD.splitlines()[0], "no rows"),
    "no voltage": ("time_s,current_A\n0,1\n", "no column voltage_V"),
    "no current, BDF": ("Test Time / s,Voltage / V\n0,3.7\n", "no column Current / A"),
    "no time": ("current_A,voltage_V\n0,3.7\n", "no column time_s"),
    "mixed names": ("time_s,Voltage / V,Current / A\n0,3.7,1\n", "no column current_A, voltage_V"),
    "twice the same column": ("time_s,current_A,voltage_V,current_A\n0,1,3.7,2\n", "current_A twice"),
    "text": (GOOD.replace("3.75", "high"), "data.csv:3: voltage_V is not a number: 'high'"),
    "a decimal comma": (GOOD.replace("3.75", '"3,75"'), "data.csv:3: voltage_V is not a number: '3,75'"),
    "text in soc": (GOOD.replace("0.49", "49 %"), "data.csv:4: soc is not a number: '49 %'"),
    "a row too short": (GOOD.replace("1,-2,3.75,,", "1,-2"), "data.csv:3: 2 columns where the header has 5"),
    "a row too long": (GOOD.replace("1.5,3.7", "1,5,3.7"), "data.csv:2: 6 columns"),
    "no voltage at all": (
        GOOD.replace("3.7,", ",").replace("3.75", "").replace("3.74", "nan"),
        "no row has a voltage_V",
    ),
    "no time at all": ("time_s,current_A,voltage_V\n,0,3.7\nnan,0,3.7\n", "no row has a time_s"),
    "time that stands still": ("time_s,current_A,voltage_V\n5,0,3.7\n5,0,3.7\n", "time_s stands still at 5"),
    "time that leaps": (GOOD.replace("1.5,0,", "1e9,0,"), "data.csv:4: time leaps by 1e+09 s"),
    "millivolts": (
        GOOD.replace("3.7,", "3700,").replace("3.75", "3750").replace("3.74", "3740"),
        "in mV? divide by 1000",
    ),
    "a pack": (GOOD.replace("3.7", "370.7"), "is it a pack's?"),
    "kelvin": (GOOD.replace("25,", "298.15,").replace("24.5", "297.65"), "in kelvin? subtract 273.15"),
    "other names": (
        GOOD.replace("current_A", "current_mA"),
        "no column current_A (it has 'time_s', 'current_mA'",
    ),
    "backwards": (
        GOOD.replace("1.5,0,", "0.5,0,"),
        "data.csv:4: time runs backwards, from 1 to 0.5 s, and 1 rows",
    ),
    "soc in percent": (
        GOOD.replace("0.49", "49"),
        "data.csv:4: soc must be 0 to 1, not 49 (so are 50 % of the rows; is it in percent?",
    ),
    "a cut gzip": (gzip.compress(LONG.encode())[:-40], "cannot be read"),
    "a damaged gzip": (gzip.compress(GOOD.encode())[:-6] + b"123456", "cannot be read"),
    "only gzip's first bytes": (b"\x1f\x8b", "cannot be read"),
    "not text": (b"\xff\xfe\x00\x01" * 50, "cannot be read"),
    "not text, later": (GOOD.encode() + b"\xff\xff,\xfe", "cannot be read"),
    "a NUL": (GOOD.replace("3.75", "3\x0075"), "data.csv:3: voltage_V is not a number"),
    "not Parquet": (b"PAR1" + bytes(100), "cannot be read"),
    "half of Parquet": (b"PAR1", "cannot be read"),
    "an endless field": ("time_s,current_A,voltage_V\n0,0," + "9" * 200_000, "cannot be read"),
    "an endless field, quoted": ('time_s,current_A,voltage_V\n0,0,"' + "9\n" * 200_000, "cannot be read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tmp_path: Path, kind: str) -> None:
    content, says = BAD[kind]
    path = csv(tmp_path, content)
    with pytest.raises(DataError) as caught:
        load_measured(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert says in text
    assert "\n" not in text
    assert len(text) < len(str(path)) + 200


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv", tmp_path / "no" / "folder.csv"):
        with pytest.raises(DataError, match="no such file"):
            load_measured(path)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"time_s": [0.0], "current_A": [1.0]}, "no column voltage_V"),
        ({"time_s": ["0"], "current_A": [1.0], "voltage_V": [3.7]}, "no column time_s"),
        ({"time_s": [0.0, 1.0], "current_A": [None, None], "voltage_V": [3.7, 3.7]}, "no column current_A"),
        (
            {"time_s": [1.0, 0.0], "current_A": [1.0, 1.0], "voltage_V": [3.7, 3.7]},
            "row 2: time runs backwards",
        ),
        ({}, "no column"),
    ],
)
def test_bad_parquet(tmp_path: Path, columns: dict[str, list[object]], says: str) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=says):
        load_measured(path)


def test_every_cut_of_a_good_file(tmp_path: Path) -> None:
    """Wherever it ends: fewer rows, or one error; for gzip and Parquet always an error."""
    pq.write_table(pa.table({"time_s": [0.0], "current_A": [1.0], "voltage_V": [3.7]}), tmp_path / "good")
    for whole in (gzip.compress(GOOD.encode()), (tmp_path / "good").read_bytes()):
        for k in range(len(whole) - 1):
            with pytest.raises(DataError):
                load_measured(csv(tmp_path, whole[:k]))
    for k in range(len(GOOD)):
        try:
            assert len(load_measured(csv(tmp_path, GOOD[:k])).time_s) <= 3
        except DataError:
            continue


def test_damaged_bytes(tmp_path: Path) -> None:
    """Random damage to each container: rows or one error, nothing else."""
    print("seed", SEED)
    rng = random.Random(SEED)
    pq.write_table(pa.table({"time_s": [0.0], "current_A": [1.0], "voltage_V": [3.7]}), tmp_path / "good")
    refused = 0
    for whole in (GOOD.encode(), gzip.compress(GOOD.encode()), (tmp_path / "good").read_bytes()):
        for _ in range(300):
            spoiled = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
            try:
                load_measured(csv(tmp_path, bytes(spoiled)))
            except DataError:
                refused += 1
    assert 300 < refused < 900


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.text("0123456789.,-+eEnaif \"'\t\r", max_size=6), max_size=5), max_size=5))
def test_any_text_is_rows_or_one_error(tmp_path: Path, rows: list[list[str]]) -> None:
    text = "time_s,current_A,voltage_V,temperature_C\n" + "\n".join(",".join(row) for row in rows)
    try:
        data = load_measured(csv(tmp_path, text))
    except DataError:
        return
    checked_bounds(data)

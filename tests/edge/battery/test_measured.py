"""Files of measurements: both sets of names, three containers, and one error with its place for all else."""

import gzip
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.battery.measured import Measured, load_measured
from edge.errors import DataError

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


BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "no column time_s, current_A, voltage_V"),
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
    "NaN": (GOOD.replace("3.75", "nan"), "data.csv:3: voltage_V is missing or not finite"),
    "nothing": (GOOD.replace("3.75", ""), "data.csv:3: voltage_V is missing or not finite"),
    "infinite": (GOOD.replace("-2", "-inf"), "data.csv:3: current_A is missing or not finite"),
    "an infinite temperature": (GOOD.replace("24.5", "inf"), "data.csv:4: temperature_C is infinite"),
    "time that is no number": (
        GOOD.replace("1.5,0,", "nan,0,"),
        "data.csv:4: time_s is missing or not finite",
    ),
    "NaN after an empty line": (
        GOOD.replace("\n1,", "\n\n1,").replace("3.75", "nan"),
        "data.csv:4: voltage_V",
    ),
    "backwards": (GOOD.replace("1.5,0,", "0.5,0,"), "data.csv:4: time runs backwards"),
    "soc in percent": (GOOD.replace("0.49", "49"), "data.csv:4: soc must be 0 to 1, not 49"),
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
        (
            {"time_s": [0.0, 1.0], "current_A": [1.0, None], "voltage_V": [3.7, 3.7]},
            "row 2: current_A is missing",
        ),
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
    assert np.isfinite(data.time_s).all()
    assert (np.diff(data.time_s) >= 0).all()
    assert np.isfinite(data.current_a).all()
    assert not np.isinf(data.temp_degc).any()

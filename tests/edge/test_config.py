"""A configuration is taken whole or every mistake in it is named."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import load
from edge.errors import ConfigError

GOOD = """
operator = "almaty"
bus = "bus-1"
state_dir = "state"

[[can]]
name = "bms"
source = "virtual:a"
dbc = "bms"

[battery]
cell = "lfp_bus"

[mqtt]
broker = "mqtt://localhost"
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "ayaz.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_good_one_gets_defaults_and_paths_beside_the_file(tmp_path: Path) -> None:
    config = load(written(tmp_path, GOOD))
    assert config.state_dir == tmp_path / "state"
    assert config.can[0].bitrate == 500_000
    assert config.battery.initial_soc is None
    assert config.mqtt.version == 5
    assert config.batch.interval_s == 10.0


def test_what_a_channel_can_say(tmp_path: Path) -> None:
    keys = 'dbc = "bms"\nlisten_only = false\nfilters = "123:7FF,18FEF100:1FFFFF00"\ndata_bitrate = 2000000'
    (channel,) = load(written(tmp_path, GOOD.replace('dbc = "bms"', keys))).can
    assert (channel.listen_only, channel.data_bitrate) == (False, 2_000_000)
    assert channel.filters == "123:7FF,18FEF100:1FFFFF00"
    (default,) = load(written(tmp_path, GOOD)).can
    assert (default.listen_only, default.data_bitrate, default.filters) == (True, None, "")


MISTAKES = [
    ('bus = "bus-1"', 'bus = "a/b"', 3, "bus"),
    ('bus = "bus-1"', 'bus = "#"', 3, "bus"),
    ('operator = "almaty"', "", 1, "operator: is missing"),
    ('source = "virtual:a"', "source = 7", 8, "can.source"),
    ('cell = "lfp_bus"', 'cell = "lfp_bus"\nparallel = -1', 13, "battery.parallel"),
    ('cell = "lfp_bus"', 'cell = "lfp_bus"\ncapcity_ah = 3', 13, "unknown key"),
    ('cell = "lfp_bus"', 'cell = "lfp_bus"\ninitial_soc = 1.5', 13, "between 0 and 1"),
    ('cell = "lfp_bus"', 'cell = "lfp_bus"\nparallel = true', 13, "whole number"),
    (
        'cell = "lfp_bus"',
        'cell = "lfp_bus"\n[events]\ncell_soc = 3',
        14,
        "events.cell_soc: must lie between 0 and 1",
    ),
    ('cell = "lfp_bus"', 'cell = "lfp_bus"\n[events]\nbms_soc = 0.1\nheat = 1', 15, "unknown key"),
    (
        'cell = "lfp_bus"',
        'cell = "lfp_bus"\n[events]\ninsulation_critical_ohm_per_v = 600',
        14,
        "must not be more than insulation_warning_ohm_per_v",
    ),
    ("mqtt://localhost", "http://localhost", 15, "mqtt.broker"),
    ("mqtt://localhost", "mqtt://host:99999", 15, "mqtt.broker"),
    ('broker = "mqtt://localhost"', 'broker = "mqtt://h"\nca = "none.pem"', 16, "no such file"),
    ('broker = "mqtt://localhost"', 'broker = "mqtt://h"\nversion = 4', 16, "3.1.1"),
    ("[[can]]", "[can]", 6, r"\[\[can\]\]"),
    ('dbc = "bms"', 'dbc = "bms"\nlisten_only = 1', 10, "true or false"),
    ('dbc = "bms"', 'dbc = "bms"\nfilters = "123"', 10, "must be ID:MASK"),
    ('dbc = "bms"', 'dbc = "bms"\nfilters = "123:FFFFFFFF"', 10, "over 29 bits"),
    ('dbc = "bms"', 'dbc = "bms"\ndata_bitrate = 0', 10, "greater than 0"),
]


@pytest.mark.parametrize(("old", "new", "line", "what"), MISTAKES)
def test_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=what) as caught:
        load(path)
    assert str(path) in caught.value.problems[0]
    assert f":{line}:" in caught.value.problems[0]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('"bus-1"', "5").replace('"virtual:a"', '""').replace("mqtt://", "x://")
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert len(caught.value.problems) == 3


def test_two_channels_of_one_name(tmp_path: Path) -> None:
    twice = '[[can]]\nname = "bms"\nsource = "virtual:b"\ndbc = "bms"\n\n[battery]'
    with pytest.raises(ConfigError, match="same name"):
        load(written(tmp_path, GOOD.replace("[battery]", twice)))


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a = ", b"", b"[" * 5000, b"operator = {" * 2000])
def test_what_is_no_configuration(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ConfigError):
        load(written(tmp_path, text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml")


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(GOOD) - 1), what=st.text(max_size=4))
def test_garbage_anywhere_is_one_typed_error_or_good(
    tmp_path_factory: pytest.TempPathFactory, at: int, what: str
) -> None:
    path = written(
        tmp_path_factory.mktemp("c"), (GOOD[:at] + what + GOOD[at + 1 :]).encode("utf-8", "replace")
    )
    try:
        config = load(path)
    except ConfigError as error:
        problems = error.problems
    else:
        problems = [str(config)]
    assert problems

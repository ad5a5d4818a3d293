"""What the page says of the second opinion, without a browser."""

import pytest

from depot.page import (
    BMS_DIFFERENCE,
    BMS_DIFFERENCE_SD,
    BMS_DRIFT,
    BMS_IS_OFF,
    BMS_SOC,
    SOC,
    SOH,
    SOH_SD,
    bar,
    health_text,
    off_text,
    opinion,
)

STATE = {SOC: 80.0, BMS_SOC: 75.0, BMS_DIFFERENCE: -7.5, BMS_DIFFERENCE_SD: 1.0, BMS_IS_OFF: True}


def test_the_second_opinion_is_a_sentence() -> None:
    assert off_text(STATE) == "-7.5 ± 2.0 %"
    said = opinion(STATE)
    assert "The BMS shows 75.0 %, which stands for 72.5 % of the cells' range" in said
    assert "is significant" in said
    assert "can be explained" in opinion(STATE | {BMS_IS_OFF: False})
    assert "-1.2 % an hour" in opinion(STATE | {BMS_DRIFT: -1.2})


@pytest.mark.parametrize("missing", [SOC, BMS_SOC, BMS_DIFFERENCE])
def test_without_its_numbers_it_says_nothing(missing: str) -> None:
    state = {k: v for k, v in STATE.items() if k != missing}
    assert opinion(state) == ""
    assert off_text({}) == "–"


def test_the_bar_marks_where_the_bms_sees_it() -> None:
    assert 'ayaz-bms" style="left:72.5%' in bar(80.0, 1.0, 72.5)
    assert "ayaz-bms" not in bar(80.0, 1.0)
    assert "left:100.0%" in bar(80.0, 1.0, 130.0), "never outside"


def test_health_has_its_band_or_is_not_there_yet() -> None:
    assert health_text({}) == "–"
    assert health_text(STATE) == "not yet measured"
    assert health_text(STATE | {SOH: 93.26, SOH_SD: 1.0}) == "93.3 ± 2.0 %"

"""The book: dwell, hysteresis and bounds, whatever a detector says."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.events.book import AT_ONCE, MAX_OPEN, PER_HOUR, UNKNOWN, Book, Rule, Turn, median_of_others

RULE = Rule("x", ("warning", "critical"), open_s=(10.0, 2.0), close_s=20.0, reopen_s=60.0)
S = 1_000_000


def levels(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def lived(book: Book, reached: list[int], held: list[int] | None = None) -> list[tuple[int, Turn]]:
    """One thing, a look a second; each turn with its second."""
    out = []
    for second, (r, h) in enumerate(zip(reached, held or reached, strict=True)):
        out += [(second, t) for t in book.look(second * S, levels(r), levels(h), np.ones(1))]
    return out


def test_once_after_its_dwell_and_over_after_its_own() -> None:
    turns = lived(Book(RULE, 1), [0] * 5 + [1] * 30 + [0] * 50)
    assert turns == [(15, Turn(0, "warning", True, 5 * S)), (55, Turn(0, "warning", False, 5 * S, "over"))]


def test_what_does_not_last_is_nothing() -> None:
    assert lived(Book(RULE, 1), ([1] * 10 + [0]) * 20) == []


def test_between_the_thresholds_nothing_changes() -> None:
    """Reached no more, but still held: it stays open for ever."""
    turns = lived(Book(RULE, 1), [1] * 12 + [0] * 500, [1] * 512)
    assert [second for second, _ in turns] == [10]


def test_worse_and_milder_are_events_of_their_own() -> None:
    turns = lived(Book(RULE, 1), [1] * 15 + [2] * 10 + [1] * 30 + [0] * 30)
    told = [(second, t.severity, t.opened, t.why) for second, t in turns]
    assert told == [
        (10, "warning", True, ""),
        (17, "warning", False, "worse"),
        (17, "critical", True, ""),
        (45, "critical", False, "milder"),
        (45, "warning", True, ""),
        (75, "warning", False, "over"),
    ]
    assert {t.since_us for _, t in turns} == {0}


def test_the_unknown_neither_opens_nor_closes() -> None:
    assert lived(Book(RULE, 1), [1] * 5 + [UNKNOWN] * 500 + [1] * 4) == []
    turns = lived(Book(RULE, 1), [1] * 11 + [UNKNOWN] * 500 + [0] * 25)
    assert [second for second, _ in turns] == [10, 11 + 500 + 20]


def test_a_gap_between_looks_is_no_proof() -> None:
    rule = Rule("x", ("warning",), open_s=(100.0,), close_s=1.0, reopen_s=0.0)
    book = Book(rule, 1)
    assert not book.look(0, levels(1), levels(1), np.ones(1))
    assert not book.look(3600 * S, levels(1), levels(1), np.ones(1))
    assert not book.look(3660 * S, levels(1), levels(1), np.ones(1))
    assert book.look(3720 * S + 40 * S, levels(1), levels(1), np.ones(1)) == []
    assert book.look(3800 * S, levels(1), levels(1), np.ones(1))


def test_one_thing_does_not_open_again_and_again() -> None:
    turns = lived(Book(RULE, 1), ([1] * 11 + [0] * 21) * 20)
    opened = [second for second, t in turns if t.opened]
    assert len(opened) >= 3
    assert min(np.diff(opened)) >= 60


def test_many_at_once_are_bounded_and_the_worst_come_first() -> None:
    n = 300
    book = Book(RULE, n)
    score = np.random.default_rng(1).permutation(n).astype(float)
    on = np.ones(n, np.int64)
    turns = [t for second in range(120) for t in book.look(second * S, on, on, score)]
    assert sorted(score[[t.index for t in turns]].tolist(), reverse=True) == list(
        range(n - 1, n - 1 - MAX_OPEN, -1)
    )
    assert book.held_back == n - MAX_OPEN, "each counted once"


def test_what_turns_worse_is_never_held_back() -> None:
    n = 30
    book = Book(RULE, n)
    for second in range(12):
        book.look(second * S, levels(*[1] * n), levels(*[1] * n), np.ones(n))
    open_now = np.flatnonzero(book.level)
    worse = np.ones(n, np.int64)
    worse[open_now] = 2
    turns = [t for second in range(12, 20) for t in book.look(second * S, worse, worse, np.ones(n))]
    assert sorted(t.index for t in turns if t.severity == "critical") == open_now.tolist()


@settings(max_examples=40, deadline=None)
@given(arrays(np.int64, (120, 5), elements=st.integers(-1, 2)), st.integers(1, 30))
def test_whatever_comes_every_closing_has_its_opening_and_openings_are_bounded(
    levels_in: np.ndarray, dt_s: int
) -> None:
    book = Book(Rule("x", ("warning", "critical"), (2.0, 1.0), 2.0, 0.0), 5)
    open_now: dict[int, str] = {}
    opened = 0
    for k, reached in enumerate(levels_in):
        held = np.where(reached < 0, reached, np.maximum(reached, levels_in[k - 1]))
        turned_worse = False
        for t in book.look(k * dt_s * S, reached, held, np.arange(5.0)):
            if t.opened:
                assert t.index not in open_now
                opened += not turned_worse
                open_now[t.index] = t.severity
            else:
                assert open_now.pop(t.index) == t.severity
            turned_worse = t.why in ("worse", "milder")
            assert t.since_us <= k * dt_s * S
    assert opened <= AT_ONCE + 1 + 120 * dt_s * PER_HOUR / 3600


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64, st.integers(1, 9), elements=st.sampled_from([np.nan, -1.0, 0.0, 0.5, 2.0, 7.0])))
def test_the_median_of_others(values: np.ndarray) -> None:
    got = median_of_others(values)
    for i in range(len(values)):
        others = np.delete(values, i)
        others = others[~np.isnan(others)]
        expected = np.median(others) if len(others) else np.nan
        np.testing.assert_equal(got[i], expected)

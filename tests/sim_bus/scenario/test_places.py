"""Every table, key and element has its line; tomllib says what there must be."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_bus.scenario.places import Place, places

TEXT = '''\
# a comment [not] = 1
about = "x = 1 # no comment" # one
[weather]
ambient_degc = [
    [0, -30], # [1, 2]
    [3, -29],
]

[[timetable]] # first
at = "05:40"
[[timetable]]

do = """
[[timetable]]
at = 3 \\""" """
at = """a""""
[ "odd \\u0041 name" . 'it' ]
x.y = 1979-05-27 07:32:00
z = { a = [1, { b = '[' }], "c" = 2 }
[[a.b]]
[a.b.c]
k = 1
[[a.b.d]]
k = 1
[[a.b]]
[[a.b.d]]
k = 1
'''


def test_every_kind_of_line() -> None:
    expected: dict[Place, int] = {
        ("about",): 2, ("weather",): 3, ("weather", "ambient_degc"): 4,
        ("weather", "ambient_degc", 0): 5, ("weather", "ambient_degc", 1): 6,
        ("weather", "ambient_degc", 0, 0): 5, ("weather", "ambient_degc", 0, 1): 5,
        ("weather", "ambient_degc", 1, 0): 6, ("weather", "ambient_degc", 1, 1): 6,
        ("timetable",): 9, ("timetable", 0): 9, ("timetable", 0, "at"): 10,
        ("timetable", 1): 11, ("timetable", 1, "do"): 13, ("timetable", 1, "at"): 16,
        ("odd A name",): 17, ("odd A name", "it"): 17, ("odd A name", "it", "x"): 18, ("odd A name", "it", "x", "y"): 18,
        ("odd A name", "it", "z"): 19, ("odd A name", "it", "z", "a"): 19, ("odd A name", "it", "z", "a", 0): 19,
        ("odd A name", "it", "z", "a", 1): 19, ("odd A name", "it", "z", "a", 1, "b"): 19, ("odd A name", "it", "z", "c"): 19,
        ("a",): 20, ("a", "b"): 20, ("a", "b", 0): 20, ("a", "b", 0, "c"): 21, ("a", "b", 0, "c", "k"): 22,
        ("a", "b", 0, "d"): 23, ("a", "b", 0, "d", 0): 23, ("a", "b", 0, "d", 0, "k"): 24,
        ("a", "b", 1): 25, ("a", "b", 1, "d"): 26, ("a", "b", 1, "d", 0): 26, ("a", "b", 1, "d", 0, "k"): 27,
    }  # fmt: skip
    assert places(TEXT) == expected
    assert places(TEXT.replace("\n", "\r\n")) == expected
    assert set(expected) == set(flat(tomllib.loads(TEXT)))


def flat(value: Any, place: Place = ()) -> list[Place]:
    """The place of everything in what tomllib read."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[Place] = [place] if place else []
    for name, one in inside:
        found += flat(one, (*place, name))
    return found


PIECES = [  # {n}: another name each time
    "# [no] = '''", "", "k{n} = 1", "'k.{n}' = -inf # x", '"k{n}" = true', "k{n}.x . y = 1979-05-27 07:32:00", "[t{n}]", "[ t.u{n} . v ]",
    "[[l]]", "[[ l.m ]]", "[[l.m.n]]", "[l.p{n}]", "[[t.w]]", "k{n} = [[[]], {}]", "k{n} = [ # ]\n\n 1,\n '#]', # ,\n]", "k{n} = {a = {b = [1, 2]}, c.d = '}'}",
    'k{n} = """\n[[l]]\n"" \\""""', "k{n} = '''\n\\'''", "k{n} = ['''\n]''', [\n{x = ''}]]", "k{n} = '\u2028 = 1'", "k{n} = '\"' # \x85", 'k{n} = "\\\\"',
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_the_same_places_as_tomllib_finds_in_whatever_it_reads(pieces: list[str]) -> None:
    text = "\n".join(piece.replace("{n}", str(n)) for n, piece in enumerate(pieces))
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = places(text)
    assert set(found) == set(flat(table))
    for place, line in found.items():
        if isinstance(place[-1], str):
            assert place[-1] in text.split("\n")[line - 1]


@pytest.mark.parametrize(
    "quotes", ["''''''", '""""""', "'''''a'''''", '"""""a"""""', '"""\\\n  a"""', '"\\\\"']
)
def test_quotes_within_and_beside_quotes(quotes: str) -> None:
    text = f"a = {quotes}\nb = 1"
    assert set(places(text)) == set(flat(tomllib.loads(text)))
    assert places(text)[("b",)] == text.count("\n") + 1

"""The compiled loops of the pack against plain numpy twins."""

from __future__ import annotations

import numpy as np
import pytest

from sim_bus.battery import _pack, thermal

SHAPES = [(1, 1), (1, 2), (3, 10), (2, 176)]


def drains_twin(volts, leak_a, short_s, bleed_s):
    bled = volts * bleed_s
    return bled, bled + volts * short_s + leak_a


def book_twin(dt_s, string_a, inner_v, heat_w, drain_a, bled_a, busbar_ohm):
    """cell_v, string_v, and what is added to core_j, surface_j, case_j, passed."""
    amps = string_a[:, None]
    cell_v = inner_v - busbar_ohm * amps
    core = dt_s * (heat_w + inner_v * (drain_a - bled_a))
    case = dt_s * (inner_v * bled_a).sum(axis=1)
    passed = dt_s * np.stack([np.maximum(string_a, 0), np.maximum(-string_a, 0), string_a**2], axis=1)
    return cell_v, cell_v.sum(axis=1), core, dt_s * busbar_ohm * amps**2, case, passed


def warm_twin(dt_s, p, ambient, flow, core_j, surface_j, case_j, tank_j, core, surface, coolant, case, tank):
    """New core, surface, coolant, case, tank, and what the ambient got: all flows first, then all nodes."""
    carried, dips = dt_s * flow * p[_pack.FLOW], dt_s * p[_pack.SURFACE_COOLANT]
    lost_tank = dt_s * p[_pack.TANK_AMBIENT] * (tank - ambient)
    new_coolant, upstream = np.empty_like(coolant), np.full(core.shape[0], tank)
    for n in range(core.shape[1]):
        upstream = (p[_pack.COOLANT_J] * coolant[:, n] + carried * upstream + dips * surface[:, n]) / (
            p[_pack.COOLANT_J] + carried + dips
        )
        new_coolant[:, n] = upstream
    inner = dt_s * p[_pack.CORE_SURFACE] * (core - surface)
    to_coolant = dips * (surface - new_coolant)
    conducts = np.full(core.shape, p[_pack.SURFACE_CASE])
    conducts[:, 0] += p[_pack.END_CASE]
    conducts[:, -1] += p[_pack.END_CASE]
    to_case = dt_s * conducts * (surface - case[:, None])
    sideways = -np.diff(surface, axis=1) * dt_s * p[_pack.NEIGHBOUR]
    gained = surface_j + inner - to_coolant - to_case
    gained[:, :-1] -= sideways
    gained[:, 1:] += sideways
    to_ambient = dt_s * p[_pack.CASE_AMBIENT] * (case - ambient)
    tank_gain = tank_j - lost_tank + carried * (upstream - tank).sum()
    return (
        core + (core_j - inner) / p[_pack.CORE_J],
        surface + gained / p[_pack.SURFACE_J],
        new_coolant,
        case + (case_j + to_case.sum(axis=1) - to_ambient) / p[_pack.CASE_J],
        tank + tank_gain / p[_pack.TANK_J],
        lost_tank + to_ambient.sum(),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_drains(shape):
    rng = np.random.default_rng(1)
    volts, leak, short, bleed = (rng.random(shape) for _ in range(4))
    bled_a, drain_a = np.empty(shape), np.empty(shape)
    _pack.drains(volts, leak, short, bleed, bled_a, drain_a)
    for got, want in zip((bled_a, drain_a), drains_twin(volts, leak, short, bleed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_book(shape):
    rng = np.random.default_rng(2)
    string_a = rng.normal(0, 100, shape[0])
    cells = [rng.normal(0, 1, shape) for _ in range(5)]
    before = [rng.normal(0, 5, s) for s in (shape, shape, shape[:1], (shape[0], 3))]
    after = [b.copy() for b in before]
    cell_v, string_v = np.empty(shape), np.empty(shape[0])
    _pack.book(0.1, string_a, *cells, cell_v, string_v, *after)
    want_v, want_string_v, *added = book_twin(0.1, string_a, *cells)
    np.testing.assert_allclose(cell_v, want_v, rtol=1e-14)
    np.testing.assert_allclose(string_v, want_string_v, rtol=1e-11, atol=1e-11)
    for was, now, more in zip(before, after, added, strict=True):
        np.testing.assert_allclose(now, was + more, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("flow", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_warm(shape, flow):
    rng = np.random.default_rng(3)
    p = thermal.parameters(*shape, 5300.0)
    heat = [rng.normal(10, 20, s) for s in (shape, shape, shape[:1])]
    nodes = [rng.uniform(-30, 40, s) for s in (shape, shape, shape, shape[:1], (1,))]
    *want, want_lost = warm_twin(1.0, p, -20.0, flow, *heat, 300.0, *nodes[:4], nodes[4][0])
    lost = _pack.warm(1.0, p, -20.0, flow, *heat, 300.0, *nodes)
    for got, expected in zip(nodes, want, strict=True):
        np.testing.assert_allclose(got, np.reshape(expected, got.shape), rtol=1e-11, atol=1e-11)
    assert lost == pytest.approx(want_lost, rel=1e-11)

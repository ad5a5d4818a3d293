"""The kernel and its plain twin say the same, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from edge.can.frames import FRAME
from sim_bus.doors import STEPS, FloatArray
from sim_bus.ecus._pack import Encoder, crc8_sae_j1850
from sim_bus.ecus.ecus import STEP_US
from sim_bus.ecus.layout import FIELD, LAYOUT, load_layout
from tests.sim_bus.ecus import twin

SEED = 4_051


def some_state(rng: np.random.Generator, slots: int) -> FloatArray:
    """Values of every size, halves between two raw numbers, ends and NaN."""
    state = rng.choice((0.05, 1.0, 40.0, 1e3, 1e9), (STEPS, slots)) * rng.normal(0, 1, (STEPS, slots))
    which = rng.integers(0, 8, state.shape)
    state[which == 0] = rng.integers(-2000, 2000, int((which == 0).sum())) / 2
    state[which == 1] = np.nan
    state[which == 2] = rng.choice((np.inf, -np.inf, 0.0, -0.0), int((which == 2).sum()))
    state[which == 3] = rng.integers(-20_000, 20_000, int((which == 3).sum())) * 0.0005  # ties of mV
    return state


@pytest.mark.parametrize("seed", range(3))
def test_kernel_and_twin_agree(seed: int) -> None:
    print("seed", SEED + seed)
    rng = np.random.default_rng(SEED + seed)
    layout = load_layout(None, 2, 176)
    layouts, fields = np.array(layout.layouts, LAYOUT), np.array(layout.fields, FIELD)
    messages = layout.messages()
    messages["boot_us"] = rng.integers(0, 900_000, len(messages))
    messages["base_us"] = messages["boot_us"] + rng.integers(0, 400_000, len(messages))
    limit = 0.45 * messages["period_us"][:, None]
    jitter_us = np.clip(rng.normal(0, 3000, (len(messages), 400)), -limit, limit)
    plain = messages.copy()
    encoder = Encoder(messages, layouts, fields, jitter_us)
    for second in range(4):
        begin_us = second * 1_000_000
        messages["until_us"] = plain["until_us"] = begin_us + 1_000_000
        state = some_state(rng, layout.slots())
        out, ends = np.zeros(600, FRAME), np.zeros(len(messages), np.int64)
        n = encoder.encode(begin_us, STEP_US, state, out, ends)
        with np.errstate(over="ignore"):
            want = twin.encode(plain, layouts, fields, jitter_us, begin_us, np.clip(state, -1e15, 1e15))
        assert out[:n].tobytes() == want.tobytes()
        assert messages.tobytes() == plain.tobytes()
        assert n == ends[-1] > 0


def test_a_full_array_ends_it() -> None:
    """What finds no room is not sent now, and nothing is written beyond the end."""
    layout = load_layout(None, 2, 176)
    messages = layout.messages()
    messages["until_us"] = 1_000_000
    encoder = Encoder(
        messages,
        np.array(layout.layouts, LAYOUT),
        np.array(layout.fields, FIELD),
        np.zeros((len(messages), 400)),
    )
    out, ends = np.zeros(5, FRAME), np.zeros(len(messages), np.int64)
    assert encoder.encode(0, STEP_US, np.zeros((STEPS, layout.slots())), out, ends) == 5


def test_crc_of_anything() -> None:
    rng = np.random.default_rng(SEED)
    for length in (0, 1, 7, 63, 200):
        data = rng.bytes(length)
        assert crc8_sae_j1850(data) == twin.crc8(data)

"""One contract for every source: frames in order, right times, one typed error, closed twice."""

import os
import time
from collections.abc import Iterator

import can
import numpy as np
import pytest

from edge.can.frames import EXTENDED
from edge.can.sources import Source, open_source
from edge.errors import SourceError

CHANNELS = ("virtual:contract", f"udp_multicast:239.74.{os.getpid() % 250}.99")


@pytest.fixture(params=CHANNELS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Source, can.BusABC]]:
    """An open source, and another node on its bus."""
    source = open_source(request.param, 2, 500_000)
    source.open()
    interface, _, channel = request.param.partition(":")
    with can.Bus(interface=interface, channel=channel) as other:
        yield source, other
    source.close()
    source.close()


def test_frames_arrive_in_order_with_monotonic_times(pair: tuple[Source, can.BusABC]) -> None:
    source, other = pair
    before_us = time.monotonic_ns() // 1000
    sent = [
        can.Message(arbitration_id=n, is_extended_id=n % 2 == 1, data=bytes([n] * (n % 9)))
        for n in range(200)
    ]
    for message in sent:
        other.send(message)
    parts = []
    while sum(map(len, parts)) < len(sent):
        parts.append(source.read(5))
        assert len(parts[-1])
    frames = np.concatenate(parts)
    assert frames["id"].tolist() == [m.arbitration_id for m in sent]
    assert ((frames["flags"] & EXTENDED) > 0).tolist() == [m.is_extended_id for m in sent]
    assert [f["data"][: f["length"]].tobytes() for f in frames] == [bytes(m.data) for m in sent]
    assert set(frames["channel"].tolist()) == {2}
    assert (np.diff(frames["time_us"]) >= 0).all()
    after_us = time.monotonic_ns() // 1000
    assert before_us - 1_000_000 <= frames["time_us"][0] <= frames["time_us"][-1] <= after_us
    assert len(source.read(0)) == 0


def test_closed_source_is_a_typed_error(pair: tuple[Source, can.BusABC]) -> None:
    source, _ = pair
    source.close()
    with pytest.raises(SourceError, match="not open"):
        source.read(0)


@pytest.mark.parametrize(
    "spec", ["ghost0", "socketcan:ghost0", "slcan:/dev/ghost", "udp_multicast:not-an-address"]
)
def test_absent_interface_is_a_typed_error(spec: str) -> None:
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(spec, 0, 500_000).open()


@pytest.mark.parametrize("spec", ["nosuch:can0", ":", "::", " virtual:x"])
def test_unknown_interface_names_those_there_are(spec: str) -> None:
    with pytest.raises(SourceError, match="python-can know"):
        open_source(spec, 0, 500_000)

"""Transport: whole messages come out, once; broken ones are counted and never half delivered."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.can.frames import ERROR, REMOTE, Frames
from edge.can.j1939 import Listener
from edge.can.j1939.transport import MAX_SESSIONS
from tests.edge.can.j1939.traffic import Bus

BUS = Bus()


def payloads(listener: Listener, frames: Frames) -> list[bytes]:
    return [whole.payload for whole in listener.feed(frames)]


@pytest.mark.parametrize("size", [9, 14, 15, 64, 65, 1784, 1785])
@pytest.mark.parametrize("way", ["bam", "rts_cts"])
def test_a_message_comes_whole(size: int, way: str) -> None:
    payload = random.Random(size).randbytes(size)
    frames = BUS.frames(getattr(BUS, way)(payload))
    (whole,) = Listener(0).feed(frames)
    assert whole.payload == payload
    last = len(frames) - (1 if way == "bam" else 2)  # an addressed one is acknowledged after
    assert (whole.frame, whole.time_us) == (last, frames["time_us"][last])
    assert whole.id == (7 << 26 | 0xFEB003 if way == "bam" else 7 << 26 | 0xEF0903)


def test_chunks_do_not_matter() -> None:
    frames = BUS.frames([*BUS.bam(bytes(50)), *BUS.rts_cts(bytes(60))])
    listener = Listener(0)
    assert [p for n in range(len(frames)) for p in payloads(listener, frames[n : n + 1])] == [
        bytes(50),
        bytes(60),
    ]


def test_one_sender_has_a_session_for_everybody_and_one_for_each_receiver() -> None:
    transfers = [
        BUS.bam(b"a" * 20, source=1),
        BUS.rts_cts(b"b" * 21, source=1, destination=2, window=9),
        BUS.rts_cts(b"c" * 22, source=1, destination=4, window=9),
        BUS.rts_cts(b"d" * 23, source=2, destination=1, window=9),
    ]
    listener = Listener(0)
    mixed = [f for row in zip(*[t[:4] for t in transfers], strict=True) for f in row]
    mixed += [f for t in transfers for f in t[4:]]
    assert sorted(payloads(listener, BUS.frames(mixed, every_us=10_000))) == [
        c * n for c, n in ((b"a", 20), (b"b", 21), (b"c", 22), (b"d", 23))
    ]
    assert listener.transport.broken == 0


@pytest.mark.parametrize("flag", [REMOTE, ERROR])
def test_remote_and_error_frames_in_between_change_nothing(flag: int) -> None:
    parts = BUS.bam(bytes(range(30)))
    strange = parts[2].copy()
    strange["flags"] |= flag
    frames = BUS.frames([*parts[:2], strange, *parts[2:]])
    assert payloads(Listener(0), frames) == [bytes(range(30))]


def test_other_channels_are_not_heard() -> None:
    frames = BUS.frames(BUS.bam(bytes(30)))
    frames["channel"] = 1
    assert payloads(Listener(0), frames) == []
    assert payloads(Listener(1), frames) == [bytes(30)]


BROKEN: dict[str, tuple[Callable[[list[Any]], list[Any]], str, int]] = {
    "one is missing": (lambda p: p[:2] + p[3:], "out_of_order", 0),
    "one comes twice": (lambda p: [*p[:3], *p[2:]], "out_of_order", 0),
    "two change places": (lambda p: [p[0], p[2], p[1], *p[3:]], "out_of_order", 0),
    "announced anew in the middle": (lambda p: p[:2] + p, "restarted", 1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_broadcast_is_counted(name: str) -> None:
    breaks, counter, whole = BROKEN[name]
    payload = bytes(range(30))
    listener = Listener(0)
    assert payloads(listener, BUS.frames(breaks(BUS.bam(payload)))) == [payload] * whole
    assert getattr(listener.transport, counter) == listener.transport.broken == 1
    assert payloads(listener, BUS.frames(BUS.bam(b"after" * 4), begin_us=10**7)) == [b"after" * 4]


def test_packets_asked_for_again_are_accepted() -> None:
    payload = bytes(range(40))
    rts, cts, *packets, ack = BUS.rts_cts(payload, window=6)
    again = cts.copy()
    again["data"][0, 1:3] = 2, 3  # two packets from the third on
    frames = BUS.frames([rts, cts, *packets[:2], packets[3], again, *packets[2:4], *packets[4:], ack])
    assert payloads(Listener(0), frames) == [payload]


@pytest.mark.parametrize("from_receiver", [True, False])
def test_an_abort_ends_it(from_receiver: bool) -> None:
    parts = BUS.rts_cts(bytes(40))
    data = bytes([255, 3, 255, 255, 255]) + (0xEF00).to_bytes(3, "little")
    abort = BUS.frame(0xEC, 3 if from_receiver else 9, 9 if from_receiver else 3, data)
    listener = Listener(0)
    assert payloads(listener, BUS.frames([*parts[:4], abort, *parts[4:]])) == []
    assert listener.transport.aborted == listener.transport.broken == 1


TIMES = {  # standard's time-out -> (frames before the pause, pause that is borne, pause that is not), in ms
    "T1 between packets of a broadcast": ("bam", 3, 740, 760),
    "T3 after an RTS": ("rts_cts", 1, 1240, 1260),
    "T2 after a CTS": ("rts_cts", 2, 1240, 1260),
    "T1 between packets of a window": ("rts_cts", 4, 740, 760),
    "T3 after the last packet of a window": ("rts_cts", 6, 1240, 1260),
}


@pytest.mark.parametrize("name", TIMES)
def test_time_outs(name: str) -> None:
    way, before, borne_ms, not_borne_ms = TIMES[name]
    for pause_ms, whole in ((borne_ms, 1), (not_borne_ms, 0)):
        frames = BUS.frames(getattr(BUS, way)(bytes(50)), every_us=1000)
        frames["time_us"][before:] += 1000 * (pause_ms - 1)
        listener = Listener(0)
        assert len(listener.feed(frames)) == whole, pause_ms
        assert listener.transport.timed_out == 1 - whole


def test_a_hold_keeps_it_open() -> None:
    parts = BUS.rts_cts(bytes(50))
    hold = parts[1].copy()
    hold["data"][0, 1:3] = 0, 0xFF
    frames = BUS.frames([parts[0], hold, hold, *parts[1:]], every_us=1_000)
    frames["time_us"][1:] += 1_000_000
    frames["time_us"][2:] += 1_000_000
    frames["time_us"][3:] += 1_000_000
    assert payloads(Listener(0), frames) == [bytes(50)]


def test_what_never_ends_is_broken_without_another_packet() -> None:
    listener = Listener(0)
    listener.feed(BUS.frames(BUS.bam(bytes(50))[:3]))
    listener.feed(BUS.frames([BUS.frame(0xFE, 0xCA, 1, bytes(8))], begin_us=10**7))
    assert listener.transport.timed_out == 1
    assert listener.transport.open == 0


NONSENSE = {
    "8 bytes": (32, 8, 2, 0xFEB0, 0xFF),
    "1786 bytes": (32, 1786, 0, 0xFEB0, 0xFF),
    "packets that don't fit the size": (32, 20, 4, 0xFEB0, 0xFF),
    "no packets": (32, 20, 0, 0xFEB0, 0xFF),
    "transport in transport": (32, 20, 3, 0xEC00, 0xFF),
    "a group beyond all": (32, 20, 3, 0x40000, 0xFF),
    "a broadcast to one": (32, 20, 3, 0xFEB0, 9),
    "a request to send to everybody": (16, 20, 3, 0xFEB0, 0xFF),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_and_counted(name: str) -> None:
    control, size, packets, pgn, destination = NONSENSE[name]
    head = bytes([control]) + size.to_bytes(2, "little") + bytes([packets, 0xFF]) + pgn.to_bytes(3, "little")
    listener = Listener(0)
    frames = BUS.frames(
        [
            BUS.frame(0xEC, destination, 3, head),
            *(BUS.packet(n, bytes(7), 3, destination) for n in range(1, 5)),
        ]
    )
    assert listener.feed(frames) == []
    assert listener.transport.nonsense == listener.transport.broken == 1
    assert listener.transport.open == 0


def test_sessions_are_bounded() -> None:
    listener = Listener(0)
    rts = [BUS.rts_cts(bytes(20), source=s, destination=d)[0] for s in range(20) for d in range(100, 120)]
    listener.feed(BUS.frames(rts, every_us=1))
    assert listener.transport.open == MAX_SESSIONS
    assert listener.transport.too_many == 400 - MAX_SESSIONS


def textbook(frames: Frames) -> list[bytes]:
    """The plain twin for broadcasts without gaps in time: the packets of each source, in order, one after another."""
    open_: dict[int, list[Any]] = {}
    out = []
    for frame_id, data in zip(frames["id"].tolist(), frames["data"][:, :8].tolist(), strict=True):
        source = frame_id & 0xFF
        if frame_id >> 16 & 0xFF == 0xEC:
            open_[source] = [data[1] | data[2] << 8, b""]
        elif source in open_:
            size, so_far = open_[source]
            if data[0] - 1 != len(so_far) // 7:
                del open_[source]
                continue
            open_[source][1] = so_far + bytes(data[1:])
            if len(open_[source][1]) >= size:
                out.append(open_.pop(source)[1][:size])
    return out


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_many_at_once_with_losses(data: Any) -> None:
    """Whatever is lost: what comes out was sent, and is what the textbook makes of the frames that came."""

    sent = [
        data.draw(st.binary(min_size=9, max_size=60), label=f"payload {n}")
        for n in range(data.draw(st.integers(1, 12), label="messages"))
    ]
    queues = [BUS.bam(payload, source=n % 4, pgn=0xFE00 + n) for n, payload in enumerate(sent)]
    order = data.draw(st.permutations([n for n, q in enumerate(queues) for _ in q]), label="order")
    lost = data.draw(st.sets(st.integers(0, len(order) - 1), max_size=5), label="lost")
    came = []
    waiting: dict[int, list[int]] = {}
    for n in range(len(queues)):  # one source sends one message after another
        waiting.setdefault(n % 4, []).append(n)
    for place, n in enumerate(order):
        queue = next((queues[m] for m in waiting[n % 4] if queues[m]), None)
        frame = queue.pop(0) if queue else None
        if frame is not None and place not in lost:
            came.append(frame)
    if not came:
        return
    frames = BUS.frames(came, every_us=100)
    listener = Listener(0)
    out = payloads(listener, frames)
    assert out == textbook(frames)
    assert set(out) <= set(sent)
    if not lost:
        assert sorted(out) == sorted(sent)


def test_garbage_never_gives_a_message_that_is_none() -> None:
    seed = 5
    print("seed", seed)
    rng = np.random.default_rng(seed)
    n = 100_000
    frames = BUS.frames([BUS.frame(0xEC, 0xFF, 0, bytes(8))] * n, every_us=1000)
    pdu = rng.choice([0xEC, 0xEB, 0xEB, 0xEB, 0xEE, 0xEA], n).astype(np.uint32)
    frames["id"] = (
        7 << 26
        | pdu << 16
        | rng.choice([0xFF, 0xFF, 3, 4], n).astype(np.uint32) << 8
        | rng.integers(0, 5, n, dtype=np.uint32)
    )
    frames["length"] = rng.choice([8, 8, 8, 8, 8, 7, 0], n)
    frames["data"][:, :8] = rng.integers(0, 256, (n, 8))
    control = rng.choice([16, 17, 19, 32, 32, 255], n)
    frames["data"][:, 0] = np.where(pdu == 0xEC, control, rng.integers(0, 5, n))
    frames["data"][:, 1] = rng.integers(0, 30, n)
    frames["data"][:, 2] = 0
    frames["data"][:, 3] = rng.integers(0, 6, n)
    frames["data"][pdu == 0xEC, 5:8] = rng.choice([0, 0xEF, 0xFE, 0xFF], ((pdu == 0xEC).sum(), 3))
    frames["data"][pdu == 0xEC, 7] = rng.integers(0, 5, (pdu == 0xEC).sum())
    listener = Listener(0)
    out = payloads(listener, frames)
    print(vars(listener.transport))
    assert out
    assert all(9 <= len(payload) <= 1785 for payload in out)
    assert listener.transport.broken > 100
    assert listener.transport.open <= MAX_SESSIONS

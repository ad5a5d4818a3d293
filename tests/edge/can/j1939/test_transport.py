"""Transport: whole messages come out, once; broken ones are counted and never half delivered."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
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
def test_broadcasts_with_losses(data: Any) -> None:
    """What comes out is what the textbook makes of the frames that came. Announcements come: a listener that
    misses the end of one broadcast and the beginning of the next can't know that they are two."""
    sent = data.draw(st.lists(st.binary(min_size=9, max_size=60), min_size=1, max_size=12), label="payloads")
    came = interleaved(
        data,
        [(n % 4, BUS.bam(payload, source=n % 4, pgn=0xFE00 + n)) for n, payload in enumerate(sent)],
        True,
    )
    frames = BUS.frames(came, every_us=100)
    out = payloads(Listener(0), frames)
    assert out == textbook(frames)
    assert set(out) <= set(sent)


def interleaved(
    data: Any, transfers: list[tuple[Any, list[Frames]]], announcements_come: bool
) -> list[Frames]:
    """The frames of (key, frames) mixed, those of one key one after another; some are lost."""
    queues: dict[Any, list[tuple[bool, Frames]]] = {}
    for key, frames in transfers:
        queues.setdefault(key, []).extend((n == 0, f) for n, f in enumerate(frames))
    rng = random.Random(data.draw(st.integers(0, 1 << 32), label="order and losses"))
    loss = data.draw(st.sampled_from([0, 0.02, 0.2]), label="loss")
    came = []
    while queues:
        key = rng.choice(sorted(queues))
        is_first, frame = queues[key].pop(0)
        if not queues[key]:
            del queues[key]
        if rng.random() >= loss or (is_first and announcements_come):
            came.append(frame)
    event(f"loss {loss}")
    return came or [BUS.frame(0xFE, 1, 1, bytes(8))]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), announcements_come=st.booleans())
def test_many_transfers_at_once_with_losses(data: Any, announcements_come: bool) -> None:
    """Each payload that comes out was sent, from there to there, and once; with nothing lost all come out.

    Where an announcement may be lost, each pair of sender and receiver has one transfer (see above).
    """
    rng = random.Random(data.draw(st.integers(0, 1 << 32), label="payloads"))
    count = data.draw(st.integers(1, 12), label="transfers")
    sent, transfers = [], []
    for n in range(count):
        payload = rng.randbytes(rng.choice([9, 14, 15, 30, 100, 300]))
        source, destination = (n % 3, 10 + n % 2) if announcements_come else (n % 3, 10 + n)
        if rng.random() < 0.4:
            destination = 0xFF if announcements_come or n < 3 else destination
        if destination == 0xFF:
            frames = BUS.bam(payload, source, 0xFE00 + n)
        else:
            frames = again(rng, BUS.rts_cts(payload, source, destination, rng.randrange(1, 9)))
        sent.append((source, destination, payload))
        transfers.append(((source, destination), frames))
    came = BUS.frames(interleaved(data, transfers, announcements_come), every_us=10)
    listener = Listener(0)
    cuts = data.draw(st.sampled_from([1, 3, len(came)]), label="cuts")
    out = [whole for part in np.array_split(came, cuts) for whole in listener.feed(part)]
    left = list(sent)
    for whole in out:
        destination = whole.id >> 8 & 0xFF if whole.id >> 16 & 0xFF < 240 else 0xFF
        left.remove((whole.id & 0xFF, destination, whole.payload))
    if len(came) == sum(len(frames) for _, frames in transfers):
        assert left == []
        assert listener.transport.broken == 0
    counted = len(out) + listener.transport.broken + listener.transport.open
    assert counted == count if announcements_come else counted <= count


def again(rng: random.Random, frames: list[Frames]) -> list[Frames]:
    """An addressed transfer whose receiver asks for the last packets of a window again, sometimes."""
    out = []
    for frame, then in zip(frames, [*frames[1:], frames[-1]], strict=True):
        out.append(frame)
        is_last = frame["id"][0] >> 16 & 0xFF == 0xEB and then["data"][0, 0] == 17
        if is_last and then["id"][0] >> 16 & 0xFF == 0xEC and rng.random() < 0.3:
            cts = then.copy()
            cts["data"][0, 1:3] = 1, frame["data"][0, 0]
            out += [cts, frame]
    return out


def test_a_packet_outside_its_window_ends_the_transfer() -> None:
    rts, cts, *rest = BUS.rts_cts(bytes(range(60)), window=2)
    listener = Listener(0)
    assert payloads(listener, BUS.frames([rts, cts, rest[0], rest[4], *rest[1:]])) == []
    assert listener.transport.out_of_order == listener.transport.broken == 1


def test_a_lost_cts_does_no_harm() -> None:
    payload = bytes(range(60))
    frames = [f for f in BUS.rts_cts(payload, window=2) if f["data"][0, 0] != 17]
    assert payloads(Listener(0), BUS.frames(frames)) == [payload]


def test_a_packet_that_comes_again_with_other_data_ends_the_transfer() -> None:
    parts = BUS.rts_cts(bytes(range(40)), window=6)
    other = parts[3].copy()
    other["data"][0, 5] ^= 1
    listener = Listener(0)
    assert payloads(listener, BUS.frames([*parts[:4], other, *parts[4:]])) == []
    assert listener.transport.contradicted == listener.transport.broken == 1


def test_an_acknowledged_transfer_that_we_have_not_whole_is_incomplete() -> None:
    parts = BUS.rts_cts(bytes(range(40)), window=6)
    listener = Listener(0)
    assert payloads(listener, BUS.frames([*parts[:3], *parts[4:]])) == []
    assert listener.transport.incomplete == listener.transport.broken == 1
    assert listener.transport.open == 0


def test_a_request_to_send_that_is_repeated_is_one() -> None:
    parts = BUS.rts_cts(bytes(range(40)))
    listener = Listener(0)
    assert payloads(listener, BUS.frames([parts[0], *parts])) == [bytes(range(40))]
    assert listener.transport.broken == 0


def test_another_log_that_begins_earlier_is_heard() -> None:
    listener = Listener(0)
    assert payloads(listener, BUS.frames(BUS.bam(bytes(50))[:3], begin_us=10**12)) == []
    assert payloads(listener, BUS.frames(BUS.bam(bytes(30)), begin_us=0)) == [bytes(30)]
    listener.feed(BUS.frames(BUS.bam(bytes(50), source=5)[:3], begin_us=10**12))
    listener.feed(BUS.frames([BUS.frame(0xFE, 1, 1, bytes(8))], begin_us=0))
    assert (listener.transport.open, listener.transport.timed_out) == (0, 2)


def test_other_data_pages_are_not_transport() -> None:
    """0x1EBxx to 0x1EExx are groups of their own (and come in real logs)."""
    frames = BUS.frames([*BUS.bam(bytes(30)), BUS.claim(3, 7)])
    frames["id"] |= 1 << 24
    listener = Listener(0)
    assert payloads(listener, frames) == []
    assert listener.names == {}


def test_garbage_never_gives_a_message_that_is_none() -> None:
    """100,000 random frames of transport: what comes out is made of the packets since its announcement."""
    seed = 5
    print("seed", seed)
    rng = np.random.default_rng(seed)
    n = 100_000
    frames = BUS.frames([np.repeat(BUS.frame(0xEC, 0xFF, 0, bytes(8)), n)], every_us=1000)
    pdu = rng.choice([0xEC, 0xEB, 0xEB, 0xEB, 0xEE, 0xEA], n).astype(np.uint32)
    frames["id"] = (
        7 << 26
        | pdu << 16
        | rng.choice([0xFF, 0xFF, 3, 4], n).astype(np.uint32) << 8
        | rng.integers(0, 5, n, dtype=np.uint32)
    )
    frames["length"] = rng.choice([8, 8, 8, 8, 8, 7, 0], n)
    frames["data"][:, :8] = rng.integers(0, 256, (n, 8))
    cm = pdu == 0xEC
    frames["data"][:, 0] = np.where(cm, rng.choice([16, 17, 19, 32, 32, 255], n), rng.integers(0, 4, n))
    frames["data"][cm, 1] = rng.integers(5, 22, cm.sum())
    fitting = -(-frames["data"][cm, 1].astype(int) // 7)
    frames["data"][cm, 3] = np.where(rng.random(cm.sum()) < 0.8, fitting, rng.integers(1, 4, cm.sum()))
    frames["data"][cm, 2] = np.where(rng.random(cm.sum()) < 0.8, 0, 1)
    frames["data"][cm, 5:8] = rng.choice([[0, 0xEF, 0], [0, 0xFE, 0], [0, 0, 4]], cm.sum())
    listener = Listener(0)
    out = listener.feed(frames)
    print(vars(listener.transport))
    assert len(out) > 30
    for whole in out:
        assert whole.payload == packets_before(frames, whole.frame)
    assert listener.transport.broken > 100
    assert listener.transport.open <= MAX_SESSIONS


def packets_before(frames: Frames, at: int) -> bytes:
    """What a reader with a pencil makes of the packets from the last announcement to frame `at`."""
    pair, parts = int(frames["id"][at]) & 0xFFFF, {}
    for n in range(at, -1, -1):
        frame_id, data = int(frames["id"][n]), frames["data"][n, :8].tobytes()
        if frame_id & 0xFFFF != pair or frames["length"][n] != 8:
            continue
        if frame_id >> 16 & 0xFF == 0xEB:
            parts.setdefault(data[0], data[1:])
        elif frame_id >> 16 & 0xFF == 0xEC and data[0] == (32 if pair >> 8 == 0xFF else 16):
            size = data[1] | data[2] << 8
            if size > 8 and data[3] == -(-size // 7) and data[7] < 4:
                return b"".join(parts[k] for k in range(1, data[3] + 1))[:size]
    raise AssertionError("no announcement")

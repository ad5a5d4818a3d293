"""What faults make of a second's frames, by the eyes of the agent's decoder and of cantools."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import cantools
import numpy as np
import pytest

from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import ERROR, EXTENDED, Frames
from edge.can.load import bus_load
from edge.errors import ScenarioError
from edge.signals.catalogue import load_catalogue
from sim_bus.ecus import crc8_sae_j1850
from sim_bus.faults.schedule import Faults
from sim_bus.faults.wire import BITRATE, WireFaults, crc8_of
from sim_bus.scenario.model import FaultPlan

Make = Callable[..., Faults]
FIRST = 12  # the number of the first of the seconds
BUSES = ("bms", "inverter", "vehicle")
PACK_STATUS = 0x100


def lived(faults: Faults, seconds: list[Frames]) -> list[Frames]:
    """The seconds through the wires; they keep to their time, their order, and the form of a frame."""
    wire, came = WireFaults(faults), []
    for t in range(FIRST):
        faults.second(float(t))
    for n, frames in enumerate(seconds, FIRST):
        faults.second(float(n))
        before = frames.copy()
        out = wire.second(n * 1_000_000, frames)
        assert (frames == before).all(), "what goes in stays"
        times = out["time_us"]
        assert (np.diff(times) >= 0).all()
        assert len(out) == 0 or n * 1_000_000 <= times[0] <= times[-1] < (n + 1) * 1_000_000
        assert not out["data"][np.arange(64) >= out["length"][:, None]].any()
        came.append(out)
    return came


@pytest.fixture(scope="module")
def ledger() -> Callable[[list[Frames]], dict[str, dict[str, int]]]:
    """What the agent counts of frames, by bus."""
    catalogue = load_catalogue([(name, name) for name in BUSES])

    def count(seconds: list[Frames]) -> dict[str, dict[str, int]]:
        decoder = Decoder.from_catalogue(catalogue)
        latest, counts = LatestTable(len(decoder.slots)), Counts(len(BUSES))
        for frames in seconds:
            decoder.update(frames, latest, counts)
        return {name: counts.of_channel(n) for n, name in enumerate(BUSES)}

    return count


def is_of(frames: Frames, channel: int, frame_id: int | None = None) -> np.ndarray:
    mask = (frames["channel"] == channel) & (frames["flags"] & ERROR == 0)
    return mask if frame_id is None else mask & (frames["id"] == frame_id)


def counted(seconds: list[Frames], channel: int = 0) -> int:
    return sum(int(is_of(frames, channel).sum()) for frames in seconds)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_lost(faults_of: Make, seconds: list[Frames], share: float) -> None:
    came = lived(faults_of(FaultPlan("lost_frames", parameters={"share": share})), seconds)
    sent = counted(seconds)
    left = counted(came)
    assert abs(left - (1 - share) * sent) <= 5 * np.sqrt(share * (1 - share) * sent)
    assert counted(came, 1) == counted(seconds, 1)
    assert counted(came, 2) == counted(seconds, 2)


def test_lost_of_one_message_on_all_buses(faults_of: Make, seconds: list[Frames]) -> None:
    plan = FaultPlan("lost_frames", parameters={"share": 1.0, "message": "INV_Torque", "bus": "all"})
    for before, after in zip(seconds, lived(faults_of(plan), seconds), strict=True):
        assert (before[~is_of(before, 1, 0x300)] == after).all()
        assert len(after) < len(before)


def test_repeated_are_refused_by_their_counter(
    faults_of: Make, seconds: list[Frames], ledger: Callable[..., dict[str, dict[str, int]]]
) -> None:
    came = lived(
        faults_of(FaultPlan("repeated_frames", parameters={"share": 1.0, "message": "BMS_PackStatus"})),
        seconds,
    )
    sent = sum(int(is_of(frames, 0, PACK_STATUS).sum()) for frames in seconds)
    assert counted(came) == counted(seconds) + sent
    assert ledger(came)["bms"]["repeated_counter"] == sent
    for frames in came:
        own = frames[is_of(frames, 0, PACK_STATUS)]
        assert (own["data"][::2] == own["data"][1::2]).all()
        assert (np.diff(own["time_us"])[::2] <= 1000).all()


def test_bad_checksums_are_refused_and_nothing_else_is(
    faults_of: Make, seconds: list[Frames], ledger: Callable[..., dict[str, dict[str, int]]]
) -> None:
    came = lived(faults_of(FaultPlan("bad_checksum", parameters={"share": 1.0, "bus": "inverter"})), seconds)
    protected = sum(int((is_of(f, 1, 0x300) | is_of(f, 1, 0x301)).sum()) for f in seconds)
    counts = ledger(came)
    assert counts["inverter"]["bad_checksum"] == counts["inverter"]["refused"] == protected > 0
    assert counts["bms"] == ledger(seconds)["bms"]
    for before, after in zip(seconds, came, strict=True):
        assert (before["data"][:, :7] == after["data"][:, :7]).all(), "only the checksum's byte"


def test_a_stuck_counter_has_the_right_checksum(
    faults_of: Make, seconds: list[Frames], ledger: Callable[..., dict[str, dict[str, int]]]
) -> None:
    came = lived(faults_of(FaultPlan("stuck_counter", parameters={"message": "BMS_PackStatus"})), seconds)
    frames = np.concatenate(came)
    own = frames[is_of(frames, 0, PACK_STATUS)]
    assert len(np.unique(own["data"][:, 6] & 0xF)) == 1
    assert [crc8_sae_j1850(bytes(d[:7])) for d in own["data"]] == own["data"][:, 7].tolist()
    counts = ledger(came)["bms"]
    assert counts["repeated_counter"] == counts["refused"] == len(own) - 1
    before = np.concatenate(seconds)
    assert (own["data"][:, :6] == before[is_of(before, 0, PACK_STATUS)]["data"][:, :6]).all()


def test_all_counters_of_a_bus_stick(
    faults_of: Make, seconds: list[Frames], ledger: Callable[..., dict[str, dict[str, int]]]
) -> None:
    counts = ledger(lived(faults_of(FaultPlan("stuck_counter", parameters={"bus": "all"})), seconds))
    assert counts["bms"]["bad_checksum"] == counts["inverter"]["bad_checksum"] == 0
    assert counts["bms"]["repeated_counter"] > 200
    assert counts["inverter"]["repeated_counter"] > 200
    assert counts["vehicle"]["refused"] == 0, "J1939 here has no counters"


def test_crc_of_rows_is_that_of_bytes() -> None:
    rows = np.random.default_rng(5).integers(0, 256, (500, 7), np.uint8)
    assert crc8_of(rows).tolist() == [crc8_sae_j1850(bytes(row)) for row in rows]


@pytest.mark.parametrize("length", [-1, 0, 3, 8])
def test_wrong_length(
    faults_of: Make, seconds: list[Frames], ledger: Callable[..., dict[str, dict[str, int]]], length: int
) -> None:
    plan = FaultPlan("wrong_length", parameters={"share": 1.0, "length": length})
    came = lived(faults_of(plan), seconds)
    counts = ledger(came)["bms"]
    for before, after in zip(seconds, came, strict=True):
        mask = is_of(before, 0)
        if length == -1:
            assert (before["length"][mask] != after["length"][mask]).all()
        else:
            assert (after["length"][mask] == length).all()
    short = sum(int((a["length"] < b["length"]).sum()) for a, b in zip(came, seconds, strict=True))
    assert counts["too_short"] == counts["refused"] == short
    assert (short > 0) == (length != 8)


def test_a_flood_is_as_dense_as_said_over_the_seconds(
    faults_of: Make, seconds: list[Frames], ledger: Callable[..., dict[str, dict[str, int]]]
) -> None:
    came = lived(faults_of(FaultPlan("flood", at_s=FIRST, parameters={"rate_hz": 333.3, "id": 1})), seconds)
    times = np.concatenate([f["time_us"][is_of(f, 0, 1)] for f in came])
    assert len(times) == int(333.3 * len(seconds)) + 1
    assert set(np.diff(times).tolist()) <= {3000, 3001}
    assert ledger(came)["bms"]["unknown"] == len(times)
    assert counted(came) == counted(seconds) + len(times), "the bus bears it"


def test_a_flood_takes_no_more_than_the_bus_has(faults_of: Make, seconds: list[Frames]) -> None:
    """The rest waits behind it, but what goes first."""
    came = lived(faults_of(FaultPlan("flood", parameters={"rate_hz": 20_000.0, "id": 0x110})), seconds)
    for before, after in zip(seconds, came, strict=True):
        kept = {i: is_of(after, 0, i).sum() for i in (0x100, 0x111, 0x200)}
        assert kept[0x100] == is_of(before, 0, 0x100).sum() > 0
        assert kept[0x111] == kept[0x200] == 0
        flood = after[is_of(after, 0, 0x110)]
        assert 0.95 < bus_load(flood, 1.0, BITRATE[0]) < 1.01
        assert (before[~is_of(before, 0)] == after[~is_of(after, 0)]).all()


def test_error_frames_are_counted_and_cost_nothing(
    faults_of: Make, seconds: list[Frames], ledger: Callable[..., dict[str, dict[str, int]]]
) -> None:
    came = lived(
        faults_of(FaultPlan("error_frames", parameters={"rate_hz": 50.0, "bus": "vehicle"})), seconds
    )
    counts, before = ledger(came), ledger(seconds)
    errors = counts["vehicle"].pop("error_frames")
    assert abs(errors - 50 * len(seconds)) < 5 * np.sqrt(50 * len(seconds))
    assert counts["vehicle"]["decoded"] == before["vehicle"]["decoded"]
    frames = np.concatenate(came)
    error = frames[frames["flags"] == ERROR]
    assert (error["id"] == 0x88).all()  # CAN_ERR_PROT | CAN_ERR_BUSERROR
    assert (error["length"] == 8).all()  # CAN_ERR_DLC
    assert error["data"][:, 2].all()


@pytest.mark.parametrize(("bus", "node"), [("bms", "BMS"), ("vehicle", "BMS"), ("vehicle", "VCU")])
def test_bus_off_silences_one_node_on_one_bus(
    faults_of: Make, seconds: list[Frames], bus: str, node: str
) -> None:
    plan = FaultPlan("bus_off", at_s=FIRST + 1, for_s=3, parameters={"bus": bus, "node": node})
    came = lived(faults_of(plan), seconds)
    database = cantools.database.load_string((resources.files("dbc") / f"{bus}.dbc").read_text("utf-8"))
    senders = {m.frame_id: m.senders[0] for m in database.messages}
    channel = BUSES.index(bus)
    for n, (before, after) in enumerate(zip(seconds, came, strict=True)):
        theirs = np.array([senders.get(int(f["id"])) == node for f in before]) & is_of(before, channel)
        errors = int((after["flags"] == ERROR).sum())
        if 1 <= n < 4:
            assert (after[after["flags"] != ERROR] == before[~theirs]).all()
            assert errors == (32 if n == 1 else 0)
        else:
            assert (before == after).all()
    assert theirs.any()


def test_unknown_ids_are_unknown(
    faults_of: Make, seconds: list[Frames], ledger: Callable[..., dict[str, dict[str, int]]]
) -> None:
    came = lived(
        faults_of(FaultPlan("unknown_ids", parameters={"rate_hz": 60.0, "bus": "all", "ids": 5})), seconds
    )
    counts, before = ledger(came), ledger(seconds)
    frames = np.concatenate(came)
    for n, bus in enumerate(BUSES):
        more = counted(came, n) - counted(seconds, n)
        assert abs(more - 60 * len(seconds)) < 5 * np.sqrt(60 * len(seconds))
        assert counts[bus]["unknown"] - before[bus]["unknown"] == more
        assert counts[bus]["decoded"] == before[bus]["decoded"]
        own = set(np.concatenate(seconds)["id"][is_of(np.concatenate(seconds), n)].tolist())
        new = set(frames["id"][is_of(frames, n)].tolist()) - own
        assert len(new) == 5
        extended = frames["flags"][np.isin(frames["id"], list(new)) & is_of(frames, n)] & EXTENDED
        assert (extended == (bus == "vehicle")).all()


def test_one_after_the_other_and_the_same_each_time(faults_of: Make, seconds: list[Frames]) -> None:
    plans = [
        FaultPlan(kind, parameters={"bus": "all"})
        for kind in ("lost_frames", "repeated_frames", "bad_checksum", "stuck_counter", "wrong_length", "flood",
                     "error_frames", "unknown_ids")
    ]  # fmt: skip
    first, again = (lived(faults_of(*plans), seconds) for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))
    other = lived(faults_of(*plans, seed=7), seconds)
    assert any(a.tobytes() != b.tobytes() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", ["lost_frames", "repeated_frames", "bad_checksum", "stuck_counter", "wrong_length",
                                  "flood", "error_frames", "bus_off", "unknown_ids"])  # fmt: skip
def test_a_silent_bus_bears_every_fault(faults_of: Make, seconds: list[Frames], kind: str) -> None:
    lived(faults_of(FaultPlan(kind)), [frames[:0] for frames in seconds])


def test_without_a_fault_the_frames_are_those_given(faults_of: Make, seconds: list[Frames]) -> None:
    faults = faults_of(FaultPlan("lost_frames", at_s=99))
    faults.second(0.0)
    assert WireFaults(faults).second(0, seconds[0]) is seconds[0]


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (FaultPlan("lost_frames", parameters={"message": "INV_Torque"}), "faults.message: bus bms has no message 'INV_Torque'"),
        (FaultPlan("lost_frames", parameters={"message": "x" * 500}), "faults.message: bus bms has no message 'xxx"),
        (FaultPlan("lost_frames", parameters={"message": "PROP_HvessCounters", "bus": "vehicle"}), "faults.message: PROP_HvessCounters goes in packets; TP_CM and TP_DT carry it"),
        (FaultPlan("bus_off", parameters={"node": "VCU"}), "faults.node: VCU sends nothing on bus bms"),
    ],
)  # fmt: skip
def test_what_no_bus_has_is_told(faults_of: Make, plan: FaultPlan, text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        WireFaults(faults_of(FaultPlan("outage"), plan))
    assert str(caught.value).startswith(f"[[faults]] 2 ({plan.kind}): {text}")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text", [None, "VERSION 1 nonsense", 'BO_ 1 M: 8 N\n SG_ x : 0|99999@1+ (1,0) [0|1] "" A']
)
def test_databases_that_cannot_be_read(faults_of: Make, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "bms.dbc").write_text(text)
    with pytest.raises(ScenarioError, match=r"bms\.dbc: cannot be read"):
        WireFaults(faults_of(FaultPlan("lost_frames")), str(tmp_path))

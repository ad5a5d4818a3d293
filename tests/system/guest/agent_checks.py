"""The agent on vcan: what its sources lost is in the ledger of its batches and in its recording."""

import json
import threading
import time
from pathlib import Path

import pytest

from edge import agent as agent_module
from edge.agent import Agent
from edge.config import load
from edge.recording import inputs_path
from tests.conftest import bus_config, eventually
from tests.system.guest.kit import sh


def test_the_ledger_names_what_each_channel_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sh("for i in a b c; do ip link add v$i type vcan; ip link set v$i up; done")
    path = tmp_path / "ayaz.toml"
    text = bus_config({"bms": "va", "inverter": "socketcan:vb", "vehicle": "vc"})
    path.write_text(text.replace('source = "va"\n', 'source = "va"\nbitrate = 10000\n'))
    monkeypatch.setattr(agent_module, "REOPEN_EVERY_S", 0.2)
    monkeypatch.setattr(agent_module, "STATUS_EVERY_S", 0.2)
    agent = Agent(load(path), record=tmp_path / "run.log")
    for i in agent.inputs:
        assert len(i.read()) == 0  # opens
    sh(
        "cangen va -g 0 -I 7FF -L 8 -n 3000 -p 10; cansend vb 20000004#0001000000000000; cansend vc 20000040#0000000000000000"
    )
    stop = threading.Event()
    runner = threading.Thread(target=agent.run, args=(stop,))
    runner.start()
    eventually(lambda: agent.core.counts.of_channel(2)["received"] == 1, 30)
    sh("ip link del vc")
    time.sleep(1)
    sh("ip link add vc type vcan; ip link set vc up")
    eventually(lambda: agent.inputs[2].reopened == 1, 30)
    stop.set()
    runner.join(30)
    can = agent.core.ledger()["can"]
    assert can["bms"]["received"] + can["bms"]["lost_socket"] == 3000
    assert can["bms"]["lost_socket"] > 1000
    assert can["inverter"]["lost_controller_at_least"] == 1
    assert (can["vehicle"]["bus_off"], can["vehicle"]["reopened"]) == (1, 1)
    recorded = [
        json.loads(line) for line in inputs_path(tmp_path / "run.log").read_text("utf-8").splitlines()
    ]
    last = [line["loss"] for line in recorded if "loss" in line][-1]
    assert last["bms.lost_socket"] == can["bms"]["lost_socket"]
    sh("for i in a b c; do ip link del v$i; done")

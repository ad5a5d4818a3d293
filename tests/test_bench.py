"""The benchmarks are run by hand; that each subject can still be measured is held here."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOOK = """
import importlib
from bench.run import SUBJECTS
for subject in SUBJECTS:
    assert callable(importlib.import_module(f"bench.{subject}").benchmarks), subject
print(len(SUBJECTS))
"""


def test_every_subject_can_be_measured() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 6


def test_a_wrong_subject_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "edge.cli", "bench", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice" in done.stderr

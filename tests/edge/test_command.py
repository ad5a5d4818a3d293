"""What several commands share: the progress line."""

import os
import pty
import re
import subprocess
import sys

import pytest

PROGRAM = (
    "import time; from edge.command import frame_progress\n"
    "with frame_progress('decode', quiet={quiet}) as advance:\n"
    "    for n in range(1, 9):\n"
    "        advance(n * 1000, {fraction}); time.sleep(0.15)\n"
    "print('done')"
)


def on_a_terminal(program: str) -> tuple[str, str]:
    """Run it with stderr on a terminal -> stdout, and what the terminal got."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "24"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while block := os.read(ours, 65536):
                shown += block
        except OSError:  # Linux: the other end was closed
            pass
        assert process.stdout is not None
        said = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0
    return said, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode("utf-8", "replace"))


def test_frames_and_time_left_on_a_terminal() -> None:
    said, shown = on_a_terminal(PROGRAM.format(quiet=False, fraction="n / 10"))
    assert said == "done\n"
    assert "decode" in shown
    assert "8,000 frames" in shown
    assert re.search(r"\d:\d\d:\d\d left", shown)


def test_only_frames_where_the_total_is_not_known() -> None:
    _, shown = on_a_terminal(PROGRAM.format(quiet=False, fraction="None"))
    assert "8,000 frames" in shown
    assert "left" not in shown


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_elsewhere(quiet: bool) -> None:
    if quiet:
        assert on_a_terminal(PROGRAM.format(quiet=True, fraction="0.5")) == ("done\n", "")
        return
    program = PROGRAM.format(quiet=False, fraction="0.5")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")

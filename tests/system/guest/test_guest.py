"""SocketCAN for real: the checks beside this file, run inside guests whose kernels have CAN.

One boot runs a guest's whole list; here each check is a test of its own. What they check they say
themselves: vcan_checks.py, slcan_checks.py, j1939_checks.py, agent_checks.py, sim_checks.py, controller_checks.py; and the contract of all sources.
"""

import ast
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.guest import Finished, GuestError, run_qemu, run_uml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
CONTRACT = ROOT / "tests" / "edge" / "can" / "test_source_contract.py"
UML = (*(HERE / f"{name}_checks.py" for name in ("vcan", "slcan", "j1939", "agent", "sim")), CONTRACT)
QEMU = (HERE / "controller_checks.py",)
TIMEOUT_S = 900  # a busy machine; alone it is done in a tenth

pytestmark = [pytest.mark.system, pytest.mark.guest]

Outcomes = dict[tuple[str, str], list[str]]  # (file, function) -> a text per failure


def checks(files: tuple[Path, ...]) -> list[tuple[str, str]]:
    """(file, function) of every check."""
    trees = {path.stem: ast.parse(path.read_text("utf-8")) for path in files}
    return [
        (name, node.name)
        for name, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def outcomes(run: Callable[[list[str], float], Finished], files: tuple[Path, ...], report: Path) -> Outcomes:
    """Boot, run all, read the report. Without the guest the tests are skipped, but fail where CI promises it."""
    paths = [str(path) for path in files]
    pytest_run = [
        "env",
        "TMPDIR=/dev/shm",  # an open file that has no name any more is lost over 9p
        "AYAZ_SOURCES=socketcan",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",  # an emulated processor loads what is not needed for half a minute
        sys.executable,
        *("-m", "pytest", "-q", "--noconftest"),
        "--durations=12",
        *("-p", "no:cacheprovider"),
        f"--junitxml={report}",
        *paths,
    ]
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        finished = run(pytest_run, TIMEOUT_S)
    except GuestError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no guest, and CI must not skip what needs it: {error}")
        pytest.skip(f"no guest: {error}")
    finally:
        os.chdir(here)
    print(finished.output)
    assert finished.returncode in (0, 1), finished.output
    found: Outcomes = {}
    for case in ET.parse(report).iter("testcase"):
        key = (case.attrib["classname"].rpartition(".")[2], case.attrib["name"].partition("[")[0])
        bad = [
            part.text or part.attrib.get("message", "")
            for part in case
            if part.tag in ("failure", "error", "skipped")
        ]
        found.setdefault(key, []).extend(bad)
    return found


@pytest.fixture(scope="module")
def in_uml(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(run_uml, UML, tmp_path_factory.mktemp("uml") / "report.xml")


@pytest.fixture(scope="module")
def in_qemu(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(run_qemu, QEMU, tmp_path_factory.mktemp("qemu") / "report.xml")


@pytest.mark.parametrize(("file", "check"), checks(UML))
def test_on_vcan_and_slcan(in_uml: Outcomes, file: str, check: str) -> None:
    assert in_uml[file, check] == [], "\n".join(in_uml[file, check])


@pytest.mark.parametrize(("file", "check"), checks(QEMU))
def test_on_emulated_controllers(in_qemu: Outcomes, file: str, check: str) -> None:
    assert in_qemu[file, check] == [], "\n".join(in_qemu[file, check])

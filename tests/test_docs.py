"""What the documents promise: links lead somewhere, the reader of the protocol reads, the example configuration is good."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.config import load
from edge.telemetry.batch import BatchBuilder, Column, Schema

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("dbc/*.md")])


def fenced(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_directory_table_names_what_is_there() -> None:
    rows = re.findall(r"^\| `([\w./]+/)` \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) >= 8
    assert [row for row in rows if not (ROOT / row).is_dir()] == []


def test_the_readers_of_the_protocol_read(tmp_path: Path) -> None:
    (program,) = fenced("docs/protocol.md", "python")
    assert len(program.strip().splitlines()) <= 10
    schema = Schema((Column("Vehicle.Speed", "km/h", "raw", 0.5, -10.0), Column("A", "%", "bits")))
    builder = BatchBuilder("o", "b", "boot", schema)
    for t_ms, raw in ((1000, 40), (2000, 44)):
        builder.add(0, t_ms, raw)
    builder.add(1, 1000, 4607182418800017408)
    (batch,) = builder.seal(2, 1000, 500_000, "ntp", {})
    paths = [tmp_path / "schema", tmp_path / "batch"]
    for path, item in zip(paths, (schema.to_item("o", "b", "boot", 1), batch), strict=True):
        path.write_bytes(item.payload)
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "500000 Vehicle.Speed 10.0 km/h",
        "501000 Vehicle.Speed 12.0 km/h",
    ]


def test_the_configuration_of_the_readme_is_good(tmp_path: Path) -> None:
    (text,) = fenced("README.md", "toml")
    path = tmp_path / "ayaz.toml"
    path.write_text(text, "utf-8")
    config = load(path)
    assert [c.name for c in config.can] == ["bms", "inverter", "vehicle"]

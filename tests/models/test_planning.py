"""What `info` tells of memory: a plan for a device or for usual cards, and the table of the documentation."""

from pathlib import Path

import pytest

from models.planning import cards_in_markdown, published
from pipelines.errors import WeightsFault
from pipelines.memory.cards import ROWS
from pipelines.memory.plan import GB, in_gb, plan_memory
from tests.models.conftest import Tool

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def section() -> str:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    return page.partition("## Cards and what works")[2].partition("\n## ")[0]


def test_the_table_in_the_documentation_is_what_the_command_gives(section: str) -> None:
    told = cards_in_markdown("float16")
    assert [line for line in section.splitlines() if line.startswith("|")] == told
    assert cards_in_markdown("bfloat16") == told  # as the section says


def test_the_figures_beside_the_table_are_those_of_a_plan(section: str) -> None:
    text, footprint = " ".join(section.split()), published("float16")
    in_host = round((footprint.base + sum(footprint.optional.values())) / GB)
    assert f"about {in_host} GB for SDXL with every part" in text
    assert f"{in_gb(footprint.unet)} for each UNet with LoRAs" in text
    with pytest.raises(WeightsFault, match=r"at least 13\.6 GB"):
        plan_memory(published("float32"), GB, ROWS)
    assert "at least 13.6 GB" in text


def test_cards_are_told_without_a_family(tool: Tool) -> None:
    code, told, _ = tool("info", "--cards", "--dtype", "fp32")
    assert code == 0
    assert told.splitlines() == cards_in_markdown("float32")
    assert "| 8 GB | do not fit |" in told


def test_info_shows_the_plan_for_what_was_given(tool: Tool, pocket_family_folder: Path) -> None:
    code, told, _ = tool("info", str(pocket_family_folder), "--memory-gb", "2.5", "--dtype", "fp32")
    assert code == 0
    assert "device memory: 2.5 GB" in told
    assert "on the device from the start: UNet 39 MB" in told
    tight = tool("info", str(pocket_family_folder), "--memory-gb", "1.4", "--dtype", "fp32")[1]
    assert "brought to the device when used: UNet 39 MB" in tight


def test_info_says_why_there_is_no_plan(tool: Tool, pocket_family_folder: Path) -> None:
    code, told, _ = tool("info", str(pocket_family_folder), "--memory-gb", "1")
    assert code == 0
    assert "no plan: The family pocket needs at least 1." in told


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "much"])
def test_memory_is_a_number_above_0(tool: Tool, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tool("info", "--memory-gb", given)
    assert "--memory-gb" in capsys.readouterr().err


def test_info_shows_usual_cards_otherwise(tool: Tool, pocket_family_folder: Path) -> None:
    code, told, _ = tool("info", str(pocket_family_folder))
    assert code == 0
    for card in (8, 12, 16, 24, 80):
        (line,) = (line for line in told.splitlines() if f"│ {card} GB " in line)
        assert "resident" in line

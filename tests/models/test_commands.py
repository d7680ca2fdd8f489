"""Every command that a refusal or `/ready` names is one that the tool obeys, whatever the part or LoRA."""

from pathlib import Path
from typing import get_args

import pytest

from models.catalogue import find
from models.families import read_family
from models.pull_presets import PRESETS, command_for
from pipelines.catalogue import ON_NO_HUB, UNPINNED_PICKLES, Catalogue
from pipelines.needs import LORAS
from pipelines.parts import Part
from tests.models.conftest import Tool
from tests.models.hub import Hub
from tests.models.miniatures import small

PARTS, BASE = get_args(Part), find("dreamshaper_turbo")  # which no preset has


@pytest.fixture
def family(tool: Tool, hub: Hub, families: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """A family of a checkpoint alone. Pickles are what test_converting.py is about: here they are taken as they are."""
    monkeypatch.setattr("models.fetching.convert", lambda part, whole, name: whole.write_bytes(part.read_bytes()))
    publish(hub, BASE.name)
    assert tool("pull", BASE.name, "--family", "bare")[0] == 0
    return Catalogue.open(families / "bare")


def publish(hub: Hub, name: str) -> None:
    """Let the hub have a file, as the public one has all of the catalogue that lie on it."""
    entry = find(name)
    if entry.repository is not None and entry.path is not None:
        hub.files.setdefault(entry.repository, {})[entry.path] = small(1)


def site(folder: Path, name: str) -> Path:
    """A folder with what is on no hub, as docs/models.md says to make one."""
    entry = find(name)
    for path in (entry.file, *(f"{entry.folder}/{beside}" for beside in entry.beside)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(small(1))
    return folder


@pytest.mark.parametrize("name", [*PARTS, *LORAS.values()])
def test_the_command_for_what_is_missing_brings_it(
    tool: Tool, hub: Hub, family: Catalogue, tmp_path: Path, name: str
) -> None:
    command = family.command_for(name)
    publish(hub, name)
    words = command.replace("FOLDER", str(site(tmp_path / "site", name))).split()
    assert words[:3] == ["python", "-m", "models"]
    code, _, told = tool(*words[3:])
    assert (code, told) == (0, "")
    brought = read_family(family.root)
    assert name in brought.parts if name in PARTS else find(name).file in brought.loras


def test_what_lies_on_no_hub_is_known_without_the_catalogue_of_files() -> None:
    """`pipelines` tells the commands, and does not read the tool's catalogue."""
    off_hub = {part for part in PARTS if find(part).repository is None or find(part).beside}
    assert off_hub == ON_NO_HUB


def test_what_asks_for_trust_is_known_without_it_too() -> None:
    assert {name for name in (*PARTS, *LORAS.values()) if find(name).needs_trust} == UNPINNED_PICKLES


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_command_asks_for_trust_where_the_pull_would_and_nowhere_else(
    tool: Tool, families: Path, preset: str
) -> None:
    command = command_for(families / preset)
    assert command is not None
    refused = "add --accept-unpinned" in tool("pull", preset)[2]
    assert command == f"make pull MODEL={preset}" + (" ARGS=--accept-unpinned" if refused else "")


def test_the_command_of_a_family_elsewhere_names_its_folder_and_other_names_have_none(families: Path) -> None:
    assert command_for(Path("/else where/lcm")) == """make pull MODEL=lcm ARGS='--family '"'"'/else where/lcm'"'"''"""
    assert command_for(Path("/elsewhere/default")) == (
        "make pull MODEL=default ARGS='--family /elsewhere/default --accept-unpinned'"
    )
    assert command_for(families / "mine") is None

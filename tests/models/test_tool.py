"""The commands besides `pull`: what they print, and what they leave."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.catalogue import ENTRIES, find
from models.pull_presets import PRESETS
from pipelines.catalogue import Catalogue
from tests.models.conftest import Tool, place
from tests.models.hub import COMMIT, Hub, sha256

ROOT = Path(__file__).parents[2]


def test_list_names_everything_and_says_what_is_here(tool: Tool) -> None:
    before = tool("list")[1]
    for name in PRESETS:
        assert name in before
    for entry in ENTRIES:
        line = next(line for line in before.splitlines() if entry.file in line)
        assert entry.name in line
        assert ("unpinned pickle" in line) == (entry.format == "pickle")
        assert (f"{entry.size:,} B" if entry.size else entry.about or "not stated") in line
    assert "CC BY-NC 4.0: no commercial use" in before
    assert "│ lcm " not in "".join(line for line in before.splitlines() if "juggernautXL" in line)
    assert tool("pull", "lcm", "--family", "of_the_team")[0] == 0
    after = tool("list")[1]
    assert "of_the_team" in next(line for line in after.splitlines() if "juggernautXL" in line)


def test_the_command_of_the_readme_brings_a_family(tool: Tool, families: Path) -> None:
    (variables,) = re.findall(r"^make pull ([^#]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", "pull", *variables.split()]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    (arguments,) = re.findall(r"-m models (.+)", done.stdout)
    assert tool(*arguments.split())[0] == 0
    assert Catalogue.open(families / "default").has("canny")


def test_verify_finds_a_changed_byte_a_missing_file_and_one_without_a_record(tool: Tool, families: Path) -> None:
    assert tool("pull", "lcm")[0] == 0
    assert tool("verify", "lcm")[0] == 0
    folder = families / "lcm"
    checkpoint, lora = folder / find("juggernaut").place, folder / find("lcm_lora").place
    content, before = bytearray(checkpoint.read_bytes()), checkpoint.stat()
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    os.utime(checkpoint, ns=(before.st_atime_ns, before.st_mtime_ns))
    lora.unlink()
    code, _, told = tool("verify", "lcm")
    assert code == 1
    assert told.splitlines() == [
        f"lcm: {find('juggernaut').place} has other bytes than when it came",
        f"lcm: {find('lcm_lora').place} is missing",
    ]


def test_verify_says_what_it_cannot_vouch_for(tool: Tool, pocket_family_folder: Path) -> None:
    code, _, told = tool("verify", str(pocket_family_folder))
    assert code == 1
    assert "pocket: pocket_xl.safetensors has no record to be held to" in told.splitlines()


def test_info_tells_what_a_family_has_and_lacks(tool: Tool) -> None:
    assert tool("pull", "lcm")[0] == 0
    told = tool("info", "lcm")[1]
    assert f"lllyasviel/misc@{COMMIT}:sdxl_lcm_lora.safetensors" in told
    assert "lacks: canny, cpds" in told


def test_a_family_that_cannot_be_read_hides_no_other(tool: Tool, families: Path) -> None:
    assert tool("pull", "lcm")[0] == 0
    (families / "a_broken_one").mkdir()
    (families / "a_broken_one" / "family.json").write_text("{")
    for command, code in (("list", 0), ("info", 1)):
        found, told, fault = tool(command)
        assert found == code
        assert find("juggernaut").file in told
        assert "a_broken_one" in fault


def test_a_part_is_removed_and_the_rest_stays(tool: Tool, families: Path) -> None:
    assert tool("pull", "lcm", "canny")[0] == 0
    assert tool("remove", "canny", "--family", "lcm")[0] == 0
    assert tool("remove", "lcm_lora", "--family", "lcm")[0] == 0
    catalogue = Catalogue.open(families / "lcm")
    assert not catalogue.has("canny")
    assert catalogue.lora("sdxl_lcm_lora") is None
    assert sorted(path.name for path in (families / "lcm").iterdir()) == ["family.json", catalogue.checkpoint.name]
    assert tool("verify", "lcm")[0] == 0
    assert "no canny that can be removed" in tool("remove", "canny", "--family", "lcm")[2]


def test_a_family_is_removed_and_what_others_put_there_stays(tool: Tool, families: Path) -> None:
    assert tool("pull", "lcm")[0] == 0
    (families / "lcm" / "notes.txt").write_text("of the team")
    assert tool("remove", "lcm")[0] == 0
    assert [path.name for path in families.rglob("*")] == ["lcm", "notes.txt"]


def test_a_lock_says_which_bytes_are_here(tool: Tool, hub: Hub, tmp_path: Path) -> None:
    assert tool("pull", "lcm")[0] == 0
    assert tool("pull", "inpaint_head", "--family", "lcm", "--accept-unpinned")[0] == 0
    path = tmp_path / "models.lock.json"
    assert tool("pin", "--lock", str(path))[0] == 0
    lock = json.loads(path.read_text())
    assert set(lock) == {"juggernaut", "lcm_lora", "inpaint_head"}
    for name, pin in lock.items():
        files, where = place(hub, name)
        assert pin == {"revision": COMMIT, "size": len(files[where]), "sha256": sha256(files[where])}

    assert tool("remove", "inpaint_head", "--family", "lcm")[0] == 0
    assert tool("pull", "inpaint_head", "--family", "lcm", "--lock", str(path))[0] == 0  # and no word on unpinned ones


@pytest.mark.parametrize("arguments", [["list"], ["pull", "--help"]])
def test_it_is_a_program(environment: dict[str, str], arguments: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "models", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert ran.stdout

"""Pulling: a preset from a hub, a folder or another family becomes a family that is whole and recorded."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
import torch
from botocore.config import Config
from safetensors.torch import load_file

from benchmarks.pocket.world.mark import mark
from models.__main__ import main
from models.catalogue import ENTRIES, find
from models.pull_presets import PRESETS
from pipelines.catalogue import Catalogue
from pipelines.safety import load
from pipelines.weights.integrity import check_files, sha256_of
from tests.gateway.files.s3_server import BUCKET
from tests.gateway.files.s3_server import serving as serving_s3
from tests.models.conftest import Tool, place
from tests.models.hub import COMMIT, Hub, serving, sha256
from tests.models.miniatures import PICKLES, pickled, pocket_file, small

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pulled(
    published: dict[str, dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Hub]]:
    """`pull default`, once: the folder of families, and the hub that it came from. Never change them."""
    home = tmp_path_factory.mktemp("pulled")
    with serving(published) as hub, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("FOOOCUS_FAMILIES", str(home))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setenv("HF_TOKEN", "of-the-user")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        assert main(["pull", "default", "--accept-unpinned"]) == 0
        yield home, hub


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_preset_becomes_a_family_with_all_its_parts(pulled: tuple[Path, Hub]) -> None:
    folder = pulled[0] / "default"
    catalogue = Catalogue.open(folder)
    check_files(catalogue, all_bytes=True)
    assert catalogue.name == "default"
    older = {"inpaint_patch_v1", "inpaint_patch_v25"}
    assert set(catalogue.missing) == {
        "face_detector",
        "refiner",
        "interposer",
        "expansion",
        "safety_checker_v2",
        *older,
    }
    assert catalogue.checkpoint.name == "juggernautXL_v8Rundiffusion.safetensors"
    for name in ("offset_lora", "lcm_lora", "lightning_lora"):
        entry = find(name)
        assert catalogue.lora(entry.file) == folder / "loras" / entry.file
        assert catalogue.lora(f"https://huggingface.co/{entry.repository}/resolve/main/{entry.path}") is not None
    assert tree(folder) == {"family.json", *catalogue.file.files}  # nothing is left aside, no pickle is here


def test_records_say_where_files_came_from_and_what_they_are(pulled: tuple[Path, Hub]) -> None:
    home, hub = pulled
    files = Catalogue.open(home / "default").file.files
    for name in PRESETS["default"]:
        entry, record = find(name), files[find(name).place]
        content = hub.files[entry.repository or ""][entry.path or ""]
        assert record.origin == f"{entry.repository}@{COMMIT}:{entry.path}"
        assert (record.fetched_sha256 or record.sha256) == sha256(content)
        assert (record.fetched_size or record.size) == len(content)
        assert (record.fetched_sha256 is not None) == (entry.format == "pickle")
        assert record.header is not None


@pytest.mark.parametrize("name", sorted({*PICKLES, "canny", "vision", "image_prompt_negative"}))
def test_parts_are_what_the_loaders_read(pulled: tuple[Path, Hub], pocket_family_folder: Path, name: str) -> None:
    found = load_file(pulled[0] / "default" / find(name).place)
    expected = load_file(pocket_file(pocket_family_folder, name))
    found = {key.replace("residual_block_", "RDB"): tensor for key, tensor in found.items()}
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key].to(tensor.dtype), tensor)


def test_parts_that_are_folders_have_their_configurations(pulled: tuple[Path, Hub]) -> None:
    for part in ("vision", "safety_checker"):
        folder = Catalogue.open(pulled[0] / "default").part(part)
        assert json.loads((folder / "preprocessor_config.json").read_text())["crop_size"] == {
            "height": 224,
            "width": 224,
        }
        assert (folder / "config.json").is_file()


def test_a_token_goes_to_the_hub_alone(pulled: tuple[Path, Hub]) -> None:
    tokens = {(asked.server, asked.authorization) for asked in pulled[1].asked}
    assert tokens == {("hub", "Bearer of-the-user"), ("cdn", None)}


def test_a_file_of_another_family_is_linked_and_not_fetched(tool: Tool, hub: Hub, families: Path) -> None:
    assert tool("pull", "lcm")[0] == 0
    hub.asked.clear()
    assert tool("pull", "lightning")[0] == 0
    assert len(hub.downloads()) == 1
    checkpoint = find("juggernaut").place
    assert os.path.samefile(families / "lcm" / checkpoint, families / "lightning" / checkpoint)
    assert tool("verify")[0] == 0


def test_what_is_here_is_not_fetched_again_and_a_changed_file_is(tool: Tool, hub: Hub, families: Path) -> None:
    assert tool("pull", "lcm")[0] == 0
    hub.asked.clear()
    assert tool("pull", "lcm")[0] == 0
    assert hub.asked == []
    (families / "lcm" / find("lcm_lora").place).write_bytes(small(99))
    assert tool("pull", "lcm")[0] == 0
    assert len(hub.downloads()) == 1
    assert tool("verify", "lcm")[0] == 0


def test_single_files_come_into_a_family(tool: Tool, families: Path) -> None:
    assert tool("pull", "lcm")[0] == 0
    assert tool("pull", "canny", "lightning_lora", "--family", "lcm")[0] == 0
    catalogue = Catalogue.open(families / "lcm")
    assert catalogue.part("canny") == families / "lcm" / find("canny").place
    assert catalogue.lora("sdxl_lcm_lora") is not None
    assert catalogue.lora("sdxl_lightning_4step_lora") is not None


def test_versions_of_the_inpaint_model_lie_beside_one_another(tool: Tool, hub: Hub, families: Path) -> None:
    files, path = place(hub, "inpaint_patch")
    files["inpaint_v25.fooocus.patch"] = files["inpaint.fooocus.patch"] = files[path]
    versions = "inpaint_patch_v1", "inpaint_patch_v25", "inpaint_patch"
    assert tool("pull", "lcm", *versions, "--accept-unpinned")[0] == 0
    catalogue = Catalogue.open(families / "lcm")
    assert [catalogue.part(part).name for part in versions] == [
        f"inpaint{version}.fooocus.patch.safetensors" for version in ("", "_v25", "_v26")
    ]


def test_another_file_of_a_part_takes_the_place_of_the_first(
    tool: Tool, hub: Hub, families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [entry for entry in ENTRIES if entry.part != "inpaint_patch_v25"]
    monkeypatch.setattr("models.catalogue.ENTRIES", (*others, replace(find("inpaint_patch_v25"), part="inpaint_patch")))
    files, path = place(hub, "inpaint_patch")
    files["inpaint_v25.fooocus.patch"] = files[path]
    assert tool("pull", "lcm")[0] == 0
    for name in ("inpaint_patch", "inpaint_patch_v25"):
        assert tool("pull", name, "--family", "lcm", "--accept-unpinned")[0] == 0
    catalogue = Catalogue.open(families / "lcm")
    assert catalogue.part("inpaint_patch").name == "inpaint_v25.fooocus.patch.safetensors"
    assert tree(families / "lcm") == {"family.json", *catalogue.file.files}


@pytest.mark.parametrize("layout", ["by repository", "flat"])
def test_a_folder_serves_a_site_without_a_hub(
    tool: Tool, hub: Hub, tmp_path: Path, families: Path, layout: str
) -> None:
    for name in PRESETS["lcm"]:
        files, path = place(hub, name)
        entry = find(name)
        target = tmp_path / "site" / (f"{entry.repository}/{path}" if layout == "by repository" else entry.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files[path])
    assert tool("pull", "lcm", "--from", str(tmp_path / "site"), "--family", str(tmp_path / "elsewhere"))[0] == 0
    assert hub.asked == []
    catalogue = Catalogue.open(tmp_path / "elsewhere")
    check_files(catalogue, all_bytes=True)
    assert catalogue.file.files[catalogue.file.checkpoint].origin.startswith(str(tmp_path / "site"))
    assert tool("verify", str(tmp_path / "elsewhere"))[0] == 0


def test_expansion_comes_from_a_folder_with_its_words(
    tool: Tool, hub: Hub, tmp_path: Path, families: Path, pocket_family_folder: Path
) -> None:
    source = pocket_family_folder / "expansion"
    shutil.copytree(source, tmp_path / "site" / "expansion", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "site" / "fooocus_expansion.bin").write_bytes(pickled(load_file(source / "model.safetensors")))
    assert tool("pull", "lcm")[0] == 0
    given = ("--family", "lcm", "--from", str(tmp_path / "site"), "--accept-unpinned")
    assert tool("pull", "expansion", *given)[0] == 0
    found = Catalogue.open(families / "lcm").part("expansion")
    assert {path.name for path in found.iterdir()} == {path.name for path in source.iterdir()}
    assert load_file(found / "model.safetensors").keys() == load_file(source / "model.safetensors").keys()
    assert tool("verify", "lcm")[0] == 0


def test_the_second_safety_checker_comes_from_a_folder_and_is_loaded(
    tool: Tool, hub: Hub, tmp_path: Path, families: Path, pocket_family_folder: Path
) -> None:
    source = pocket_family_folder / "safety_checker_v2"
    shutil.copytree(source, tmp_path / "site" / "safety_checker_v2")
    weights = tmp_path / "site" / "safety_checker_v2" / "model.safetensors"
    weights.rename(tmp_path / "site" / "safety_checker_v2.safetensors")
    assert tool("pull", "lcm")[0] == 0
    assert tool("pull", "safety_checker_v2", "--family", "lcm", "--from", str(tmp_path / "site"))[0] == 0
    checker = load(Catalogue.open(families / "lcm").part("safety_checker_v2"))
    assert checker.flags(mark(64)[None]) == [True]
    assert tool("verify", "lcm")[0] == 0


def test_a_bucket_serves_a_site_without_a_hub(
    tool: Tool, hub: Hub, families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving_s3() as server:
        for name, value in (server.environment() | {"AWS_ENDPOINT_URL": server.endpoint_url}).items():
            monkeypatch.setenv(name, value)
        client = boto3.session.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
        for name in PRESETS["lcm"]:
            files, path = place(hub, name)
            client.put_object(Bucket=BUCKET, Key=f"models/{find(name).repository}/{path}", Body=files[path])
        assert tool("pull", "lcm", "--from", f"s3://{BUCKET}/models")[0] == 0
        code, _, told = tool("pull", "canny", "--family", "lcm", "--from", f"s3://{BUCKET}/models")
        client.close()
    assert (code, told) == (1, f"error: s3://{BUCKET}/models has no {find('canny').file}.\n")
    assert hub.asked == []
    assert tool("verify", "lcm")[0] == 0


def size(part: Path) -> int:
    """In bytes; 0 of one that has become whole, and is called otherwise now."""
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_pull_that_was_killed_or_stopped_goes_on_where_it_was(
    hub: Hub, environment: dict[str, str], families: Path, tool: Tool, number: signal.Signals, code: int
) -> None:
    files, path = place(hub, "juggernaut")
    files[path] = small(0, 6_000_000)
    digest = sha256(files[path])
    hub.stalled[digest] = 21 * 2**20  # the client writes in pieces of ten
    command = [sys.executable, "-m", "models", "pull", "lcm"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background jobs ignore
    ) as running:
        try:
            assert hub.sending.wait(60)
            parts = families / "lcm" / ".pull"
            while sum(size(part) for part in parts.glob("*.part")) < 20 * 2**20:
                assert running.poll() is None
            running.send_signal(number)
            assert running.wait(20) == code
        finally:
            running.kill()
    assert not (families / "lcm" / "family.json").exists()
    assert not any(families.glob("lcm/*.safetensors"))

    hub.stalled.clear()
    hub.released.set()
    hub.asked.clear()
    assert tool("pull", "lcm")[0] == 0
    assert [asked.range for asked in hub.downloads() if digest in asked.path] == [f"bytes={20 * 2**20}-"]
    assert sha256_of(families / "lcm" / find("juggernaut").place) == digest
    assert tree(families / "lcm") == {"family.json", *Catalogue.open(families / "lcm").file.files}


def test_what_was_whole_before_a_fault_is_not_fetched_again(
    tool: Tool, hub: Hub, families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.fetching.AT_ONCE", 1)  # the checkpoint is whole when the LoRA fails
    files, path = place(hub, "lcm_lora")
    whole = files[path]
    files[path] = whole[:-4]  # damaged at its source
    assert tool("pull", "lcm")[0] == 1
    assert not (families / "lcm" / "family.json").exists()
    files[path] = whole
    hub.asked.clear()
    assert tool("pull", "lcm")[0] == 0
    assert [sha256(whole) in asked.path for asked in hub.downloads()] == [True]

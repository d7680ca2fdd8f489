"""What cannot be pulled is said in one line on stderr, with exit code 1, and nothing half is left."""

import errno
import shutil
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from models.catalogue import Entry, find
from models.sources import Found, HubSource
from tests.models.conftest import Tool, place
from tests.models.hub import Hub, sha256
from tests.models.miniatures import small


def refused(tool: Tool, *arguments: str) -> str:
    """The one line that a command is refused with."""
    code, _, told = tool(*arguments)
    assert code == 1
    lines = told.strip().splitlines()
    assert len(lines) == 1, told
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("status", [401, 403])
def test_a_repository_that_refuses(tool: Tool, hub: Hub, families: Path, status: int) -> None:
    if status == 401:
        hub.private["lllyasviel/fav_models"] = "secret"
    else:
        hub.gated.add("lllyasviel/fav_models")
    told = refused(tool, "pull", "lcm")
    assert f"({status})" in told
    assert "HF_TOKEN" in told
    assert not families.exists()


def test_a_token_opens_a_private_repository(tool: Tool, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.private["lllyasviel/fav_models"] = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert tool("pull", "lcm")[0] == 0


def test_a_file_that_the_hub_does_not_have(tool: Tool, hub: Hub, families: Path) -> None:
    files, path = place(hub, "lcm_lora")
    del files[path]
    told = refused(tool, "pull", "lcm")
    assert "no sdxl_lcm_lora.safetensors of lllyasviel/misc (404)" in told
    assert not families.exists()


def test_no_network(tool: Tool, families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens at the port of discard
    assert "http://127.0.0.1:9 cannot be reached" in refused(tool, "pull", "lcm")
    assert not families.exists()


def test_a_hub_that_is_to_be_left_alone(tool: Tool, hub: Hub, families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it was read at the import
    assert "HF_HUB_OFFLINE is set" in refused(tool, "pull", "lcm")
    assert hub.asked == []
    assert not families.exists()


def test_a_place_that_is_no_hub(tool: Tool, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.models.hub.COMMIT", "")  # as any server of files, which knows of no revisions
    assert "is no model hub" in refused(tool, "pull", "lcm")


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_without_room_is_found_before_anything_is_fetched(
    tool: Tool, hub: Hub, families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10**9, 10**9 - 100, 100))
    assert "nothing is fetched" in refused(tool, "pull", "lcm")
    assert hub.downloads() == []
    assert not families.exists()


def test_a_disk_that_fills_up_meanwhile(tool: Tool, families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: HubSource, entry: Entry, found: Found, into: Path, stop: threading.Event) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(HubSource, "fetch", full)
        assert "is full" in refused(tool, "pull", "lcm")
    assert not (families / "lcm" / "family.json").exists()
    assert tool("pull", "lcm")[0] == 0


def test_a_connection_that_breaks_off_for_good(
    tool: Tool, hub: Hub, families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path = place(hub, "juggernaut")
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)  # between its attempts
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    hub.broken[sha256(files[path])] = 5000
    told = refused(tool, "pull", "lcm")
    assert "cannot be reached for juggernautXL_v8Rundiffusion.safetensors" in told
    assert not (families / "lcm" / "family.json").exists()
    assert not list(families.glob("lcm/*.safetensors"))
    hub.broken.clear()
    hub.asked.clear()
    assert tool("pull", "lcm")[0] == 0
    assert "bytes=4096-" in [asked.range for asked in hub.downloads()]
    assert tool("verify", "lcm")[0] == 0


def test_other_bytes_than_the_lock_says(tool: Tool, hub: Hub, families: Path, tmp_path: Path) -> None:
    lock = str(tmp_path / "models.lock.json")
    assert tool("pull", "lcm")[0] == 0
    assert tool("pin", "lcm", "--lock", lock)[0] == 0
    assert tool("remove", "lcm")[0] == 0
    assert not (families / "lcm").exists()
    files, path = place(hub, "lcm_lora")
    before, files[path] = files[path], small(77)
    assert f"has the sha256 {sha256(small(77))} and should have {sha256(before)}" in refused(
        tool, "pull", "lcm", "--lock", lock
    )
    assert not (families / "lcm").exists()
    files[path] = before
    assert tool("pull", "lcm", "--lock", lock)[0] == 0


def test_other_bytes_than_the_hub_says(tool: Tool, hub: Hub, families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, path = place(hub, "lcm_lora")
    digest, content = sha256(files[path]), hub.by_digest
    wrong = files[path][:-1] + b"\1"
    monkeypatch.setattr(hub, "by_digest", lambda asked: wrong if asked == digest else content(asked))
    assert f"has the sha256 {sha256(wrong)} and should have {digest}" in refused(tool, "pull", "lcm")
    assert not list(families.glob("lcm/loras/*"))
    assert wrong not in [path.read_bytes() for path in families.glob("lcm/.pull/*")]


def test_a_pickle_of_which_nobody_says_the_hash(tool: Tool, hub: Hub, families: Path) -> None:
    told = refused(tool, "pull", "default")
    assert "--accept-unpinned" in told
    assert "inpaint_patch" in told
    assert hub.asked == []
    assert not families.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pull", "nonsense"), "Nothing is called 'nonsense'"),
        (("pull", "canny"), "only one preset"),
        (("pull", "nonsense", "--family", "x"), "Nothing is called 'nonsense'"),
        (("pull", "canny", "--family", "x"), "There is no family in"),
        (("pull", "lcm", "sai"), "only one preset"),
        (("pull", "lcm", "sai", "--family", "x", "--accept-unpinned"), "A family has one checkpoint"),
        (("pull", "lcm", "playground"), "Nothing here uses playground"),
        (("pull", "lcm", "face_detector", "--accept-unpinned"), "lies on no hub"),
        (("pull", "lcm", "expansion", "--accept-unpinned"), "config.json lies on no hub"),
        (("pull", "lcm", "refiner", "realistic_vision", "--accept-unpinned"), "the same part"),
        (("pull", "lcm", "safety_checker_v2", "--accept-unpinned"), "config.json lies on no hub"),
        (("pull", "lcm", "--from", "/no/such/folder"), "there is no such folder"),
        (("pull", "lcm", "--from", "s3://"), "names no bucket"),
        (("pull", "lcm", "--from", "s3://no bucket"), "cannot be fetched from the bucket no bucket"),
        (("pull", "lcm", "--lock", "/no/such/lock"), "cannot be read"),
        (("verify", "nobody"), "There is no family in"),
        (("info",), "`make pull MODEL=default ARGS=--accept-unpinned` brings one"),
        (
            ("info", "default"),
            "`make pull MODEL=default ARGS=--accept-unpinned` brings it, and `python -m models list`",
        ),
        (("info", "lcm"), "`make pull MODEL=lcm` brings it, and `python -m models list`"),
        (("info", "mine"), "mine: `python -m models list` names what there is"),
        (("remove", "nobody"), "There is no family in"),
        (("remove", "canny", "--family", "nobody"), "There is no family in"),
        (("pin",), "There is no family in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense(tool: Tool, families: Path, arguments: tuple[str, ...], told: str) -> None:
    assert told in refused(tool, *arguments)
    assert not families.exists()


def test_a_damaged_file_of_a_folder(tool: Tool, hub: Hub, tmp_path: Path) -> None:
    for name in ("juggernaut", "lcm_lora"):
        files, path = place(hub, name)
        (tmp_path / find(name).file).write_bytes(files[path][:-8])
    assert "is damaged" in refused(tool, "pull", "lcm", "--from", str(tmp_path))


def test_a_second_pull_into_the_same_folder(tool: Tool, families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def meanwhile(self: HubSource, entry: Entry, found: Found, into: Path, stop: threading.Event) -> None:
        from models.errors import ToolFault
        from models.pulling import pull

        try:
            pull([find("juggernaut")], families / "lcm", HubSource())
        except ToolFault as fault:
            told.append(str(fault))
        raise fault_of_a_network

    fault_of_a_network = OSError("gone")
    monkeypatch.setattr(HubSource, "fetch", meanwhile)
    assert "gone" in refused(tool, "pull", "lcm")
    assert "Another pull" in told[0]


def test_a_pickle_with_more_than_tensors_is_named(tool: Tool, tmp_path: Path, families: Path) -> None:
    (tmp_path / find("inpaint_head").file).write_bytes(b"no pickle")
    assert tool("pull", "lcm")[0] == 0
    before = tree(families)
    told = refused(tool, "pull", "inpaint_head", "--family", "lcm", "--from", str(tmp_path), "--accept-unpinned")
    assert "fooocus_inpaint_head.pth cannot be converted" in told
    assert tree(families) == before


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_lock_that_cannot_be_written(tool: Tool, families: Path, tmp_path: Path) -> None:
    assert tool("pull", "lcm")[0] == 0
    assert "cannot be written: No such file" in refused(tool, "pin", "--lock", str(tmp_path / "no" / "lock.json"))


def test_a_disk_that_refuses_at_the_end(tool: Tool, families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as context:
        context.setattr("models.families.write_whole", full)  # of family.json
        assert "family.json: No space left on device" in refused(tool, "pull", "lcm")
    assert not (families / "lcm" / "family.json").exists()
    assert tool("pull", "lcm")[0] == 0
    assert tool("verify", "lcm")[0] == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "EOF"), ('{"name": "x", "version": "1", "checkpoint": "c", "part": {}}', "part: Extra"), ("[]", "object")],
)
def test_a_family_file_that_is_none(tool: Tool, families: Path, content: str, told: str) -> None:
    assert tool("pull", "lcm")[0] == 0
    (families / "broken").mkdir()
    (families / "broken" / "family.json").write_text(content)
    for command in ("info", "verify", "remove"):
        line = refused(tool, command, "broken")
        assert "is not a family's catalogue" in line
        assert told in line
    code, out, err = tool("verify")  # all of them
    assert code == 1
    assert "is not a family's catalogue" in err
    assert "lcm: every file is as it came" in out

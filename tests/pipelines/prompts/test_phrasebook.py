"""The phrasebook: an operator's styles and wildcards, what is wrong with their folders, and what no prompt reaches."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import InputFault
from pipelines.prompts import folders
from pipelines.prompts.assembly import Texts
from pipelines.prompts.folders import FolderFault
from pipelines.prompts.phrasebook import BUNDLED, Phrasebook
from tests.pipelines.studio import spec


@pytest.fixture
def styles(tmp_path: Path) -> Path:
    return made(tmp_path / "styles", "house.json", json.dumps([{"name": "house-look", "prompt": "house, {prompt}"}]))


@pytest.fixture
def wildcards(tmp_path: Path) -> Path:
    folder = made(tmp_path / "wildcards", "deep/animal.txt", "cat\ndog\nowl\n")
    return made(folder, "nest.txt", "two __animal__s\n")


def made(folder: Path, name: str, text: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return folder


def images(book: Phrasebook, **asked: Any) -> tuple[Texts, ...]:
    return book.assembled(spec(**asked)).images


def test_a_style_of_the_folder_stands_beside_ours_or_in_place_of_one(styles: Path) -> None:
    made(styles, "more.json", json.dumps([{"name": "sai-anime", "prompt": "mine", "negative_prompt": "theirs"}]))
    book = Phrasebook.read(styles)
    assert {"House Look", "Random Style", "Fooocus V2"} <= set(book.names)
    assert images(book, prompt="a cat", styles=("House Look",))[0].positive == ("house, a cat",)
    assert images(book, prompt="a cat", styles=("SAI Anime",))[0].positive == ("a cat", "mine")
    assert "House Look" not in BUNDLED.names


def test_names_without_a_text_of_their_own_are_given_none(styles: Path) -> None:
    made(styles, "more.json", json.dumps([{"name": "Random Style", "prompt": "x"}, {"name": "Fooocus V2"}]))
    assert images(Phrasebook.read(styles), prompt="a", styles=("Random Style",))[0].styles != ("Random Style",)


def test_wildcards_of_the_folder_differ_by_the_seed(wildcards: Path) -> None:
    book = Phrasebook.read(wildcards_folder=wildcards)
    many = images(book, prompt="__nest__", negative_prompt="__animal__", seeds=tuple(range(30)))
    assert {each.main for each in many} == {"two cats", "two dogs", "two owls"}
    assert {each.negative for each in many} == {("cat",), ("dog",), ("owl",)}
    assert images(book, prompt="__nest__", negative_prompt="__animal__", seeds=(4,))[0] == many[4]


@pytest.mark.parametrize(
    "name", ["__../secret__", "__../../etc/passwd__", "__/etc/hostname__", "__deep/animal__", "__..__", "__a\0b__"]
)
def test_no_name_leads_out_of_the_folder(wildcards: Path, name: str) -> None:
    made(wildcards.parent, "secret.txt", "secret")
    (wildcards / "linked.txt").symlink_to(wildcards.parent / "secret.txt")
    book = Phrasebook.read(wildcards_folder=wildcards)
    assert images(book, prompt=f"a {name} b")[0].main == f"a {name} b"
    assert images(book, prompt="a __linked__ b")[0].main == "a linked b"


def test_what_is_linked_within_the_folder_is_read(wildcards: Path) -> None:
    (wildcards / "beast.txt").symlink_to(wildcards / "deep" / "animal.txt")
    assert Phrasebook.read(wildcards_folder=wildcards).wildcards["beast"] == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("styles/bad.json", b"[{"),
        ("styles/bad.json", b'{"name": "x"}'),
        ("styles/bad.json", b'[{"prompt": "nameless"}]'),
        ("styles/bad.json", b'[{"name": 3}]'),
        ("styles/bad.json", b"\xff\xfe"),
        ("wildcards/bad.txt", b"\xff\xfe\x00"),
        ("wildcards/bad.txt", b"a" * 200_001),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_its_name(
    styles: Path, wildcards: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (styles.parent / name).write_bytes(content)
    monkeypatch.setattr(folders, "MAX_BYTES", 200_000)
    with pytest.raises(FolderFault, match=Path(name).name) as caught:
        Phrasebook.read(styles, wildcards) if name[0] == "s" else Phrasebook.read(None, wildcards)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    for asked in ({"styles_folder": tmp_path / "no"}, {"wildcards_folder": tmp_path / "no"}):
        with pytest.raises(FolderFault, match="no folder"):
            Phrasebook.read(**asked)


def test_a_wildcard_that_names_itself_and_one_that_is_too_long_are_the_prompts_fault(wildcards: Path) -> None:
    made(wildcards, "self.txt", "more __self__")
    made(wildcards, "long.txt", "a" * 30_000)
    book = Phrasebook.read(wildcards_folder=wildcards)
    for prompt, type_ in (("__self__", "value_error"), ("__long__", "sequence_too_long")):
        with pytest.raises(InputFault) as caught:
            images(book, prompt=prompt)
        assert (caught.value.type, caught.value.field) == (type_, "prompt")


def test_folders_are_read_in_one_order_whatever_the_disk_lists_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "A.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    if len(listed := sorted(tmp_path.iterdir())) < 3:
        pytest.skip("the file system does not tell upper from lower case")
    for order in (listed, listed[::-1]):
        monkeypatch.setattr(Path, "rglob", lambda folder, pattern, order=order: iter(order))
        assert [path.name for path, _ in folders.text_files(tmp_path, ".txt")] == ["A.txt", "a.txt", "b.txt"]

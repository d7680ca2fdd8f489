"""The tokenizer without transformers gives the very ids that transformers' gives, of any text."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from pipelines.errors import WeightsFault
from pipelines.prompts.tokenizer import WordTokenizer, tokenizers_of

NAMES = ("tokenizer", "tokenizer_2")
START = {"content": "<|startoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
END = {**START, "content": "<|endoftext|>", "normalized": False}
PAD = {**START, "content": "!", "normalized": False}
SPECIAL = ["<|endoftext|>", "<|STARTOFTEXT|>", "<|startoftext|>x", "a!!b", "it's", "\u0130", "\ufb01", "x\u0301", "😀!"]

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text("abcT'!<|>.,:12", max_size=40),
    st.text("aé漢א😀\u0301\u0323\u200d\ufe0f", max_size=40),
    st.sampled_from(SPECIAL),
    st.integers(200, 600).map(lambda length: "abcdefg" * (length // 7)),
)


def changed(source: Path, folder: Path, **config: Any) -> Path:
    """A copy of a tokenizer, its configuration changed."""
    shutil.copytree(source, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


@pytest.fixture(params=["tokenizer", "tokenizer_2", "SDXL's first", "SDXL's second", "flags"])
def folder(request: pytest.FixtureRequest, pocket_family_folder: Path, tmp_path: Path) -> Path:
    """The pocket family's two, and these as SDXL's files describe theirs: by ids, with flags."""
    config = pocket_family_folder / "config"
    if request.param in NAMES:
        return config / request.param
    start, end = (json.loads((config / "tokenizer/vocab.json").read_bytes())[each["content"]] for each in (START, END))
    listed = {str(start): {**START, "special": False}, str(end): {**END, "special": False}}
    if request.param == "SDXL's first":
        return changed(config / "tokenizer", tmp_path / "one", added_tokens_decoder=listed)
    if request.param == "SDXL's second":
        listed["0"] = {**PAD, "special": True}
        return changed(config / "tokenizer_2", tmp_path / "one", added_tokens_decoder=listed)
    found = changed(config / "tokenizer_2", tmp_path / "one")
    flagged = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": PAD}
    (found / "special_tokens_map.json").write_text(json.dumps(flagged))
    return found


def test_its_ids_are_those_of_transformers(folder: Path) -> None:
    ours, stock = WordTokenizer(folder), CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(texts, min_size=1, max_size=20))
    def holds(words: list[str]) -> None:
        assert ours(words) == stock(words, add_special_tokens=False).input_ids

    holds()


def test_a_family_has_two_which_differ_where_the_second_pads(pocket_family_folder: Path) -> None:
    first, second = tokenizers_of(pocket_family_folder / "config")
    assert first(["circle"]) == second(["circle"])
    assert first(["!"]) != second(["!"])


def test_no_words_have_no_ids(pocket_family_folder: Path) -> None:
    assert WordTokenizer(pocket_family_folder / "config" / "tokenizer")([]) == []


def test_threads_may_share_one(pocket_family_folder: Path) -> None:
    tokenizer = WordTokenizer(pocket_family_folder / "config" / "tokenizer")
    words = [f"word{number}" for number in range(300)]
    alone = tokenizer(words)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone for found in pool.map(tokenizer, [words] * 40))


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, "no such thing"])
def test_files_that_cannot_be_read_are_named(
    pocket_family_folder: Path, tmp_path: Path, name: str, content: str | None
) -> None:
    folder = changed(pocket_family_folder / "config" / "tokenizer", tmp_path / "one")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(WeightsFault, match=str(folder)):
        WordTokenizer(folder)

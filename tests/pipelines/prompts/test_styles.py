"""Every style of the schemas has a text of its own, and a folder of one's own is read by the same reader."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import get_args

import pytest

import pipelines
from gateway.endpoints.styles import Style as StyleName
from pipelines.prompts.chunks import CHUNK
from pipelines.prompts.styles import EXPANSION, PLACE, Style, normal_name, read_styles
from pipelines.prompts.tokenizer import WordTokenizer

NAMES: tuple[str, ...] = get_args(get_args(StyleName)[0])
STYLES = read_styles()
NEGATIVE_ONLY = {"Fooocus Enhance", "Fooocus Semi Realistic", "Fooocus Negative"}
FILLERS = {"a", "an", "and", "at", "by", "in", "into", "its", "no", "of", "on", "the", "to", "with", "prompt"}
ARTISTS = ("van gogh", "singer sargent", "pollock", "basquiat", "warhol", "adnate", "ron english", "shepard fairey")
OTHER_ARTISTS = "greg rutkowski|artgerm|alphonse mucha|ghibli|banksy|yayoi kusama|damien hirst|hockney|koons|beeple"


def words(style: Style) -> set[str]:
    return set(re.findall(r"\w+", " ".join((*style.positive, *style.negative)).lower())) - FILLERS


def test_every_name_has_a_text_but_the_one_that_switches_the_expansion_on() -> None:
    assert set(NAMES) - set(STYLES) == {EXPANSION}
    assert set(STYLES) <= set(NAMES)
    assert all(style.negative for style in STYLES.values())
    assert {name for name, style in STYLES.items() if not style.positive} == NEGATIVE_ONLY


def test_each_positive_text_has_one_place_for_the_prompt() -> None:
    for style in STYLES.values():
        assert [text.count(PLACE) for text in style.positive] in ([1], []), style.name
        assert not any(PLACE in text for text in style.negative), style.name


def test_texts_leave_room_for_the_prompt_in_one_chunk() -> None:
    tokenise = WordTokenizer(Path(pipelines.__file__).parent / "configs" / "sdxl_base" / "tokenizer")
    for style in STYLES.values():
        for text in style.positive + style.negative:
            count = sum(map(len, tokenise(text.replace(PLACE, "").split())))
            assert 6 <= count <= CHUNK - 25, style.name


def test_no_two_styles_are_alike() -> None:
    sets = {name: words(style) for name, style in STYLES.items()}
    for one, other in combinations(sets, 2):
        shared = len(sets[one] & sets[other]) / len(sets[one] | sets[other])
        assert shared < 0.3, (one, other)


def test_no_artist_is_named_but_by_the_style_of_their_name() -> None:
    for style in STYLES.values():
        text = " ".join((*style.positive, *style.negative)).lower()
        assert [name for name in ARTISTS if name in text and name not in style.name.lower()] == [], style.name
        assert re.search(OTHER_ARTISTS, text) is None, style.name


def test_a_folder_of_ones_own_comes_in_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    mine = [
        {"name": "sai-3d-model", "prompt": "mine of {prompt}.\nand more", "negative_prompt": ""},
        {"name": "my own-look"},
    ]
    (tmp_path / "deep" / "mine.json").write_text(json.dumps(mine), "utf-8")
    found = read_styles(tmp_path)
    assert found["SAI 3D Model"] == Style("SAI 3D Model", ("mine of {prompt}", "and more"), ())
    assert found["My Own Look"] == Style("My Own Look", (), ())
    assert found["SAI Anime"] == STYLES["SAI Anime"]


@pytest.mark.parametrize(
    "text", ["{", "{}x", "3", '[{"prompt": "x"}]', '["x"]', '[{"name": 1}]', '[{"name": "x", "prompt": 5}]']
)
def test_a_file_of_another_format_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"broken\.json is not a file of styles"):
        read_styles(tmp_path)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("sai-3d-model", "SAI 3D Model"),
        ("MK mosaic", "Mk Mosaic"),
        ("Flat 2D Art", "Flat 2d Art"),
        ("mre-comic", "MRE Comic"),
    ],
)
def test_names_are_made_regular(written: str, normal: str) -> None:
    assert normal_name(written) == normal

"""The pocket tokenizers spell what the text encoders learned to read as they learned it, and have other words whole."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from benchmarks.pocket.world.exam import held_out
from models.pocket.style_words import STYLE_WORDS
from models.pocket.tokenizer import WORDS, prompt_words, write_tokenizer
from pipelines.prompts.chunks import CHUNK
from pipelines.prompts.styles import PLACE, read_styles

LEARNED = {  # by the text encoders that were trained first, with 320 merges
    "against": ["a", "g", "ain", "s", "t</w>"],
    "down": ["do", "w", "n</w>"],
    "high": ["h", "i", "g", "h</w>"],
    "huge": ["h", "u", "ge</w>"],
    "masterpiece": ["ma", "st", "e", "r", "p", "i", "e", "c", "e</w>"],
    "plus": ["p", "l", "u", "s</w>"],
    "quality": ["qu", "a", "l", "it", "y</w>"],
    "time": ["ti", "m", "e</w>"],
    "trending": ["tr", "e", "n", "d", "ing</w>"],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizers") / "tokenizer"
    write_tokenizer(folder, second=False)
    found: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return found


def test_words_of_captions_are_spelled_as_they_were_learned(tokenizer: CLIPTokenizer) -> None:
    assert {word: tokenizer.tokenize(word) for word in LEARNED} == LEARNED
    assert [word for word in WORDS if len(tokenizer.tokenize(word)) > 1] == []


def test_other_words_are_a_token_each(tokenizer: CLIPTokenizer) -> None:
    spelled = {word for word in (*prompt_words(), *STYLE_WORDS) if len(tokenizer.tokenize(word)) > 1}
    assert spelled <= {*LEARNED, "piece"}  # which would join two tokens of a masterpiece


def test_a_caption_in_the_default_styles_is_one_chunk(tokenizer: CLIPTokenizer) -> None:
    _, said = held_out(100)
    for style in (read_styles()[name] for name in ("Fooocus Enhance", "Fooocus Sharp")):
        texts = [*style.negative, *(text.replace(PLACE, caption) for text in style.positive for caption in said)]
        assert max(len(tokenizer.tokenize(text)) for text in texts) <= CHUNK

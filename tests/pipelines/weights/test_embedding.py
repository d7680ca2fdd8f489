"""Files of embeddings: every layout gives the vectors that were written, and what is none is refused by what it is."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.errors import FileGone, InputFault
from pipelines.inputs import FoundEmbedding
from pipelines.spec import Embedding
from pipelines.weights import embedding
from pipelines.weights.embedding import read_embedding, read_vocabulary
from tests.pipelines.weights.embeddings import LAYOUTS, Layout, write

SDXL = 768, 1280
NARROW, WIDE = torch.randn(3, 768), torch.randn(3, 1280)
FOUR_BITS = torch.zeros(3, 384, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)  # which torch can copy and no more


def refusal(path: Path) -> str:
    with pytest.raises(InputFault) as caught:
        read_vocabulary([FoundEmbedding(Embedding(source="x", field="embeddings.0.path"), path)], SDXL)
    assert (caught.value.type, caught.value.field) == ("feature_not_supported", "embeddings.0.path")
    return caught.value.msg


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_each_layout_gives_the_vectors_of_both_encoders(tmp_path: Path, layout: Layout) -> None:
    found = read_embedding(write(tmp_path / "a.safetensors", layout(NARROW, WIDE)), SDXL)
    for got, wanted in zip(found, (NARROW, WIDE), strict=True):
        assert got.dtype is torch.float32
        torch.testing.assert_close(got, wanted, atol=2e-3, rtol=0)


def test_one_vector_may_be_written_flat(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"clip_l": NARROW[0], "clip_g": WIDE[0]})
    assert [tuple(side.shape) for side in read_embedding(path, SDXL)] == [(1, 768), (1, 1280)]


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"emb_params": NARROW}, "is for Stable Diffusion 1.5: it has 768 numbers a vector in emb_params"),
        ({"<cat>": NARROW}, "is for Stable Diffusion 1.5"),
        ({"clip_l": NARROW}, "is for Stable Diffusion 1.5"),
        ({"emb_params": torch.zeros(1, 1024)}, "is for Stable Diffusion 2"),
        ({"clip_g": WIDE}, "both text encoders are needed, with 768 and 1280"),
        ({"clip_l": NARROW, "clip_g": torch.zeros(3, 1024)}, "does not fit the model"),
        ({"clip_l": NARROW, "clip_g": WIDE[:2]}, "has 3 vectors for the first text encoder and 2 for the second"),
        ({"clip_l": NARROW, "clip_g": WIDE * torch.nan}, "numbers that are not finite, or larger than 10000"),
        ({"clip_l": NARROW, "clip_g": WIDE / 0}, "numbers that are not finite"),
        ({"clip_l": NARROW.long(), "clip_g": WIDE}, "holds no vectors: clip_l"),
        ({"clip_l": FOUR_BITS, "clip_g": WIDE}, "holds no vectors: clip_l"),
        ({"clip_l": NARROW[None], "clip_g": WIDE}, "holds no vectors: clip_l"),
        ({"clip_l": NARROW[:0], "clip_g": WIDE[:0]}, "holds no vectors: clip"),
        ({"clip_l": torch.tensor(1.0), "clip_g": WIDE}, "holds no vectors: clip_l"),
        ({"clip_l": NARROW, "clip_g": WIDE, "t5xxl": torch.zeros(3, 4096)}, "is none: it has 3 tensors"),
        ({}, "is none: it has 0 tensors"),
    ],
)
def test_what_does_not_fit_is_refused_by_what_it_is(tmp_path: Path, tensors: Mapping[str, Tensor], told: str) -> None:
    assert told in refusal(write(tmp_path / "a.safetensors", tensors))


def test_what_is_no_safetensors_is_never_opened(tmp_path: Path) -> None:
    path, opened = tmp_path / "a.safetensors", tmp_path / "opened"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (opened,)

    path.write_bytes(pickle.dumps(Hostile()))
    assert "it is a pickle" in refusal(path)
    assert not opened.exists()
    torch.save({"string_to_param": {"*": NARROW}}, path)
    assert "it is a pickle or an archive" in refusal(path)
    path.write_bytes(b"<!doctype html><title>Log in</title>")
    assert "it is a page of text" in refusal(path)
    whole = write(path, {"clip_l": NARROW, "clip_g": WIDE}).read_bytes()
    path.write_bytes(whole[:-1])
    assert "is cut short" in refusal(path)
    assert str(tmp_path) not in refusal(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.safetensors", {"clip_l": NARROW, "clip_g": WIDE})
    monkeypatch.setattr(embedding, "MAX_BYTES", path.stat().st_size)
    read_embedding(path, SDXL)
    monkeypatch.setattr(embedding, "MAX_BYTES", path.stat().st_size - 1)
    assert "is larger than" in refusal(path)


def test_vectors_of_several_files_stand_one_after_another(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, {"clip_l": NARROW[:n], "clip_g": WIDE[:n]}) for name, n in (("a", 1), ("b", 3))]
    spelt = [("<a>", "<also>"), ("<b>", "<c>")]
    found = [FoundEmbedding(Embedding(source="x", tokens=each), path) for each, path in zip(spelt, paths, strict=True)]
    vocabulary = read_vocabulary(found, SDXL)
    places = {"<a>": range(1), "<also>": range(1), "<b>": range(1, 3), "<c>": range(3, 4)}
    assert vocabulary.spellings.places == places
    assert torch.equal(vocabulary.vectors[0], torch.cat([NARROW[:1], NARROW]))
    assert torch.equal(vocabulary.vectors[1], torch.cat([WIDE[:1], WIDE]))


def test_a_vocabulary_is_named_by_vectors_and_spelling(tmp_path: Path) -> None:
    def key(vectors: Tensor, token: str) -> object:
        path = write(tmp_path / "a.safetensors", {"clip_l": vectors, "clip_g": WIDE})
        return read_vocabulary([FoundEmbedding(Embedding(source="x", tokens=(token,)), path)], SDXL).key

    assert len({key(NARROW, "a"), key(NARROW, "a"), key(NARROW, "b"), key(-NARROW, "a")}) == 3


def test_a_file_that_has_gone_is_told_as_gone(tmp_path: Path) -> None:
    with pytest.raises(FileGone):
        read_vocabulary([FoundEmbedding(Embedding(source="x"), tmp_path / "a.safetensors")], SDXL)

"""Pictures of prompts that are spelt with embeddings."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from pipelines.catalogue import Catalogue
from pipelines.errors import InputFault
from pipelines.events import Drawn
from pipelines.inputs import FoundEmbedding, Inputs
from pipelines.preparing import find_loras, prepare
from pipelines.spec import Embedding, Guidance, Lora, Size, Spec
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio, last, spec
from tests.pipelines.weights.embeddings import LAYOUTS, vectors_of, write

SMALL = {"size": Size(width=64, height=64), "steps": 2}


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


def inputs_of(studio: Studio, wanted: Spec, *paths: Path) -> Inputs:
    catalogue = studio.family.catalogue
    found = [FoundEmbedding(each, path) for each, path in zip(wanted.embeddings, paths, strict=True)]
    return prepare(wanted, [], find_loras(wanted, catalogue), embeddings=found, catalogue=catalogue)


def latent(studio: Studio, wanted: Spec, *paths: Path) -> Tensor:
    studio.watched.latents.clear()
    assert isinstance(last(studio.listen("one", wanted, inputs_of(studio, wanted, *paths))), Drawn)
    return studio.watched.latents[0]


@pytest.fixture
def circle(pocket_family: Family, tmp_path: Path) -> Path:
    return write(tmp_path / "circle.safetensors", LAYOUTS["kohya"](*vectors_of(pocket_family, "red circle")))


@pytest.fixture
def star(pocket_family: Family, tmp_path: Path) -> Path:
    return write(tmp_path / "star.safetensors", LAYOUTS["kohya"](*vectors_of(pocket_family, "blue star")))


def test_an_embedding_draws_what_its_vectors_say_in_both_prompts(studio: Studio, circle: Path, star: Path) -> None:
    guided = {**SMALL, "guidance": Guidance(scale=4.0)}
    plain = spec(prompt="a red circle", negative_prompt="a (blue star:1.3)", **guided)
    own = (Embedding(source="a", tokens=("<circle>",)), Embedding(source="b", tokens=("<star>",)))
    spelt = spec(prompt="a <circle>", negative_prompt="a (<star>:1.3)", embeddings=own, **guided)
    assert_close(latent(studio, spelt, circle, star), latent(studio, plain), atol=1e-3, rtol=1e-3)


def test_neighbours_with_one_token_for_unlike_embeddings_keep_their_own(
    studio: Studio, circle: Path, star: Path
) -> None:
    spelt = spec(prompt="a <s0><s1> on green", embeddings=(Embedding(source="a"),), **SMALL)
    plain = [spec(prompt=f"a {words} on green", **SMALL) for words in ("red circle", "blue star")]
    alone = [studio.draw(each).astype(int) for each in plain]
    assert np.abs(alone[0] - alone[1]).mean() > 1
    listening = [studio.listen(path.name, spelt, inputs_of(studio, spelt, path)) for path in (circle, star)]
    for events, wanted in zip(listening, alone, strict=True):
        assert np.abs(last(events).images - wanted).max() <= 1


def test_a_prompt_may_name_what_the_family_has(studio: Studio) -> None:
    named = spec(prompt="a (embedding:pocket_purple_heart:1.1) on green", **SMALL)
    own = spec(prompt="a (<own>:1.1) on green", embeddings=(Embedding(source="x", tokens=("<own>",)),), **SMALL)
    path = studio.family.catalogue.embedding("pocket_purple_heart")
    assert path is not None
    assert latent(studio, named).equal(latent(studio, own, path))


def test_a_name_that_nothing_answers_is_left_out_and_told(studio: Studio) -> None:
    plain, named = (spec(prompt=prompt, **SMALL) for prompt in ("a star", "a embedding:none star"))
    assert "there is no embedding 'none' here" in inputs_of(studio, named).notes[0]
    assert latent(studio, named).equal(latent(studio, plain))


def test_an_embedding_that_does_not_fit_is_refused_and_the_next_one_is_drawn(
    studio: Studio, circle: Path, tmp_path: Path
) -> None:
    narrow, _ = vectors_of(studio.family, "star")
    path = write(tmp_path / "narrow.safetensors", {"emb_params": narrow})
    wanted = spec(prompt="a <s0>", embeddings=(Embedding(source="a", field="embeddings.0.path"),), **SMALL)
    fault = last(studio.listen("one", wanted, inputs_of(studio, wanted, path)))
    assert isinstance(fault, InputFault)
    assert (fault.type, fault.field) == ("feature_not_supported", "embeddings.0.path")
    assert latent(studio, wanted, circle).isfinite().all()


@pytest.mark.parametrize("tagged", [False, True])
def test_an_embedding_that_a_lora_brings_acts_by_its_name(studio: Studio, tmp_path: Path, tagged: bool) -> None:
    narrow, wide = vectors_of(studio.family, "red circle")
    path = studio.family.catalogue.lora("pocket_outlines")
    assert path is not None
    bundle = {"bundle_emb.roundel.clip_l": narrow, "bundle_emb.roundel.clip_g": wide}
    write(tmp_path / "brings.safetensors", {**load_file(path), **bundle})
    catalogue = Catalogue.open(studio.family.catalogue.root, loras_folder=tmp_path)

    def drawn(prompt: str, source: str) -> Tensor:
        own = () if tagged else (Lora(source=source, scale=0.5, field="loras.0.path"),)
        wanted = spec(prompt=f"{prompt}, <lora:{source}:0.5>" if tagged else prompt, loras=own, **SMALL)
        inputs = prepare(wanted, [], find_loras(wanted, catalogue), catalogue=catalogue)
        assert inputs.notes == ()
        studio.watched.latents.clear()
        assert isinstance(last(studio.listen("one", wanted, inputs)), Drawn)
        return studio.watched.latents[0]

    plain = drawn("a red circle on green", "pocket_outlines")
    for word in ("roundel", "embedding:roundel", "(roundel:1.0)"):
        assert_close(drawn(f"a {word} on green", "brings"), plain, atol=1e-3, rtol=1e-3)
    assert (drawn("a roundel on green", "pocket_outlines") - plain).abs().max() > 1e-2

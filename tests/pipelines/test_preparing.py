"""From decoded pictures to the inputs of a drawing."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from skimage import data

from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny
from pipelines.images.cpds import cpds
from pipelines.images.face import TEMPLATE, FaceFinder
from pipelines.images.resize import cover, stretch
from pipelines.inputs import FoundEmbedding, FoundLora
from pipelines.preparing import NAMED, STRUCTURES, find_embeddings, find_loras, prepare
from pipelines.prompts.phrasebook import Phrasebook
from pipelines.spec import Embedding, Lora, Reference, Size, Spec, Start, Structure, StructureKind, Upscale, Vary
from tests.detector import DETECTOR, needs_detector
from tests.pipelines import studio

SQUARE = Size(width=64, height=64)
FACE = Reference(kind="FaceSwap", source="b", field="image_prompt_2.image_url")


def spec(**changes: Any) -> Spec:
    return studio.spec(**{"size": SQUARE, "loras": (), **changes})


def picture(width: int, height: int, seed: int = 0) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((-(-height // 4), -(-width // 4), 1), np.uint8))[:height, :width]


class Known:
    def lora(self, source: str) -> Path | None:
        return Path("/weights/known.safetensors") if source == "known" else None


def test_text_alone_needs_only_its_size() -> None:
    inputs = prepare(spec(), [], [])
    assert inputs.size == SQUARE
    assert inputs.start is None
    assert inputs.structures == ()
    assert inputs.loras == ()


def test_the_start_picture_is_stretched_to_the_size_of_the_spec() -> None:
    inputs = prepare(spec(pictures=(Start(source="x", strength=0.5),)), [picture(100, 30)], [])
    assert inputs.start is not None
    assert inputs.start.shape == (64, 64, 3)


def test_without_a_size_the_start_picture_gives_it() -> None:
    inputs = prepare(spec(size=None, pictures=(Start(source="x", strength=0.5),)), [picture(131, 70)], [])
    assert inputs.size == Size(width=128, height=64)
    assert inputs.start is not None
    assert inputs.start.shape == (64, 128, 3)


def test_a_start_picture_that_is_too_small_is_the_clients_fault_with_its_field() -> None:
    tiny = spec(size=None, pictures=(Start(source="x", strength=0.5, field="image_url"),))
    with pytest.raises(InputFault) as caught:
        prepare(tiny, [picture(40, 200)], [])
    assert (caught.value.type, caught.value.field) == ("image_too_small", "image_url")


@pytest.mark.parametrize(
    ("given", "drawn"),
    [((500, 500), (1024, 1024)), ((1080, 1920), (1920, 1080)), ((1004, 1000), (1000, 1000))],
    ids=str,
)
def test_a_picture_to_vary_says_the_size_and_what_the_vae_cannot_read_is_cut(
    given: tuple[int, int], drawn: tuple[int, int]
) -> None:
    height, width = given
    pixels = picture(width, height)
    inputs = prepare(spec(pictures=(Vary(source="x", strength=0.5),)), [pixels], [])
    assert inputs.size == Size(width=drawn[0], height=drawn[1])
    assert inputs.start is not None
    assert inputs.start.shape == (drawn[1], drawn[0], 3)
    if given == (1004, 1000):  # its shape ceil is 1024: it is not resized
        assert np.array_equal(inputs.start, pixels[2:1002])


@pytest.mark.parametrize(("steps", "side", "denoised"), [(4, 520, True), (0, 520, False), (4, 1408, False)])
def test_a_picture_to_enlarge_is_left_to_the_upscaler(steps: int, side: int, denoised: bool) -> None:
    pixels = picture(side, 602 if side == 520 else side)
    inputs = prepare(spec(steps=steps, pictures=(Upscale(source="x", factor=2),)), [pixels], [])
    assert inputs.start is None
    assert inputs.enlarging is not None
    assert np.array_equal(inputs.enlarging.pixels, pixels)
    assert (inputs.enlarging.width, inputs.enlarging.height) == (2 * side, 2 * pixels.shape[0])
    assert inputs.enlarging.denoised is denoised
    assert inputs.size == Size(width=2 * side, height=2 * pixels.shape[0] // 8 * 8)


def test_structures_have_the_size_of_what_is_varied() -> None:
    pictures = (Structure(kind="PyraCanny", source="a"), Vary(source="x", strength=0.5))
    inputs = prepare(spec(pictures=pictures), [picture(90, 50), picture(500, 500)], [])
    assert inputs.structures[0].pixels.shape == (1024, 1024, 3)


@pytest.mark.parametrize("begun", [Vary(source="x", strength=0.5, field="u"), Upscale(source="x", factor=2, field="u")])
def test_a_picture_too_small_to_vary_or_to_enlarge_is_the_clients_fault(begun: Any) -> None:
    with pytest.raises(InputFault) as caught:
        prepare(spec(pictures=(begun,)), [picture(40, 200)], [])
    assert (caught.value.type, caught.value.field) == ("image_too_small", "u")


def test_structures_are_covered_then_annotated_and_know_their_picture() -> None:
    first, second, begun = picture(90, 50, seed=1), picture(50, 90, seed=2), picture(64, 64, seed=3)
    edges, shades = Structure(kind="PyraCanny", source="a", weight=0.5), Structure(kind="CPDS", source="b")
    wanted = spec(pictures=(edges, Start(source="c", strength=0.5), shades))
    inputs = prepare(wanted, [first, begun, second], [])
    assert [(hint.structure, hint.control) for hint in inputs.structures] == [(edges, "canny"), (shades, "cpds")]
    assert np.array_equal(inputs.structures[0].pixels, pyra_canny(cover(first, SQUARE)))
    assert np.array_equal(inputs.structures[1].pixels, cpds(cover(second, SQUARE)))
    assert np.array_equal(inputs.start, begun)


def test_an_image_prompt_is_stretched_to_what_the_tower_sees() -> None:
    """Its proportions give way (fooocus-facts 5.1)."""
    shown, look = picture(90, 50), Reference(kind="ImagePrompt", source="a", weight=0.5)
    inputs = prepare(spec(pictures=(look,)), [shown], [])
    (found,) = inputs.references
    assert (found.reference, found.adapter) == (look, "image_prompt")
    assert np.array_equal(found.pixels, stretch(shown, Size(width=224, height=224)))
    assert inputs.notes == ()


@needs_detector
def test_of_the_astronaut_it_is_her_face_that_reaches_the_tower() -> None:
    faces, photo = FaceFinder(DETECTOR), data.astronaut()
    inputs = prepare(spec(pictures=(FACE,)), [photo], [], faces)
    (found,) = inputs.references
    assert (found.adapter, found.pixels.shape, inputs.notes) == ("face_prompt", (224, 224, 3), ())
    landmarks = faces.find(found.pixels)
    assert landmarks is not None
    assert np.abs(landmarks - TEMPLATE * 224 / 512).mean() < 8


@needs_detector
def test_a_picture_without_a_face_is_used_whole_and_that_is_said() -> None:
    inputs = prepare(spec(pictures=(FACE,)), [data.coffee()], [], FaceFinder(DETECTOR))
    assert np.array_equal(inputs.references[0].pixels, stretch(data.coffee(), Size(width=224, height=224)))
    (note,) = inputs.notes
    assert note.startswith("image_prompt_2.image_url: no face was found")


def test_without_a_detector_the_picture_is_used_whole_and_that_is_said() -> None:
    inputs = prepare(spec(pictures=(FACE,)), [picture(224, 224)], [])
    assert np.array_equal(inputs.references[0].pixels, picture(224, 224))
    (note,) = inputs.notes
    assert note.startswith("image_prompt_2.image_url: no face detector")


def test_every_kind_of_structure_can_be_prepared() -> None:
    assert set(STRUCTURES) == set(get_args(StructureKind))


@pytest.mark.parametrize(
    ("wanted", "pictures"),
    [
        (spec(), [picture(64, 64)]),
        (spec(pictures=(Start(source="x", strength=1),)), []),
        (spec(pictures=(Structure(kind="PyraCanny", source="a"),)), []),
        (spec(size=None), []),
        (spec(size=None, pictures=(Structure(kind="PyraCanny", source="a"),)), [picture(64, 64)]),
    ],
)
def test_what_does_not_match_the_spec_is_a_mistake_of_the_caller(wanted: Spec, pictures: list[Pixels]) -> None:
    with pytest.raises(ValueError, match="picture"):
        prepare(wanted, pictures, [])


def test_known_loras_are_found_in_order() -> None:
    wanted = spec(loras=(Lora(source="known", scale=1), Lora(source="known", scale=0.5)))
    path = Path("/weights/known.safetensors")
    assert find_loras(wanted, Known()) == [FoundLora(lora, path) for lora in wanted.loras]


def test_an_unknown_lora_is_refused_with_its_field() -> None:
    wanted = spec(
        loras=(Lora(source="known", scale=1), Lora(source="https://x.example/y", scale=1, field="loras.1.path"))
    )
    with pytest.raises(InputFault) as caught:
        find_loras(wanted, Known())
    assert (caught.value.type, caught.value.field) == ("feature_not_supported", "loras.1.path")


class KnownEmbedding:
    def embedding(self, source: str) -> Path | None:
        return Path("/weights/own.safetensors") if source == "own" else None


def test_embeddings_are_looked_for_in_the_texts_that_are_drawn_from() -> None:
    book = Phrasebook(wildcards={"one": ("embedding:own",)})
    found = prepare(spec(prompt="a __one__"), [], [], catalogue=KnownEmbedding(), phrasebook=book)
    assert [each.embedding.tokens for each in found.embeddings] == [("embedding:own",)]
    assert found.texts[0].positive == ("a embedding:own",)


def test_embeddings_of_the_spec_come_before_those_that_prompts_name() -> None:
    asked = Embedding(source="own", tokens=("<own>",), field="embeddings.0.path")
    prompt, negative = "a (embedding:own:1.2) star,\nembedding:own embedding:none", "embedding:own, ((embedding:other))"
    wanted = spec(prompt=prompt, negative_prompt=negative, embeddings=(asked,))
    found = prepare(wanted, [], [], embeddings=find_embeddings(wanted, KnownEmbedding()), catalogue=KnownEmbedding())
    named = Embedding(source="own", tokens=("embedding:own",), field="prompt")
    path = Path("/weights/own.safetensors")
    assert found.embeddings == (FoundEmbedding(asked, path), FoundEmbedding(named, path))
    assert [note.split(" here")[0] for note in found.notes] == [
        "prompt: there is no embedding 'none'",
        "negative_prompt: there is no embedding 'other'",
    ]


def test_of_many_unknown_names_some_are_told_and_the_others_counted() -> None:
    many = " ".join(f"embedding:none{at}" for at in range(NAMED + 100))
    notes = prepare(spec(prompt=many), [], [], catalogue=KnownEmbedding()).notes
    assert len(notes) == NAMED + 1
    assert notes[-1] == "prompt: there are 100 more embeddings that are not here"


def test_an_unknown_embedding_is_refused_with_its_field() -> None:
    wanted = spec(embeddings=(Embedding(source="none", field="embeddings.0.path"),))
    with pytest.raises(InputFault) as caught:
        find_embeddings(wanted, KnownEmbedding())
    assert (caught.value.type, caught.value.field) == ("feature_not_supported", "embeddings.0.path")


def test_preparing_does_not_import_torch() -> None:
    code = "import sys, pipelines.preparing, pipelines.images.black_out; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

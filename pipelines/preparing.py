"""From a spec and its decoded pictures to the inputs of a drawing: sizes, annotation, files of LoRAs and embeddings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, assert_never

from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny
from pipelines.images.cpds import cpds
from pipelines.images.face import FaceFinder
from pipelines.images.hole import hole_of
from pipelines.images.resize import centre_of, cover, stretch, stretch_to
from pipelines.images.sizes import fitted_size, latent_size, size_to_enlarge, size_to_vary
from pipelines.inputs import Enlarging, FoundEmbedding, FoundLora, Hint, Inputs, Look
from pipelines.needs import ADAPTERS, CONTROLS, UNKNOWN_EMBEDDING, loras_of, unknown_lora
from pipelines.prompts.assembly import Texts
from pipelines.prompts.embeddings import named_in, spelt, written
from pipelines.prompts.phrasebook import BUNDLED, Phrasebook
from pipelines.spec import (
    Beginning,
    Canvas,
    Embedding,
    Mask,
    Picture,
    Reference,
    Size,
    Spec,
    Start,
    Structure,
    StructureKind,
    Upscale,
    Vary,
)
from pipelines.weights.lora.bundled import bundled_names

STRUCTURES: Mapping[StructureKind, Callable[[Pixels], Pixels]] = MappingProxyType(
    {"PyraCanny": pyra_canny, "CPDS": cpds}
)
"""What makes the hint of a structure from its picture, by its kind: both (height, width, 3), uint8 RGB."""


NAMED = 8  # embeddings that a prompt names and nothing answers, of which each has a note

SEEN = Size(width=224, height=224)
"""What the vision tower of image prompts sees of a picture."""


class LoraCatalogue(Protocol):
    """What a family knows of LoRAs (`pipelines.catalogue.Catalogue`)."""

    def lora(self, source: str) -> Path | None: ...


class EmbeddingCatalogue(Protocol):
    """What is known of embeddings: by a family (`pipelines.catalogue.Catalogue`), or by whoever serves it."""

    def embedding(self, source: str) -> Path | None: ...


def prepare(
    spec: Spec,
    pictures: Sequence[Pixels],
    loras: Sequence[FoundLora],
    faces: FaceFinder | None = None,
    *,
    embeddings: Sequence[FoundEmbedding] = (),
    catalogue: EmbeddingCatalogue | None = None,
    phrasebook: Phrasebook = BUNDLED,
) -> Inputs:
    """The inputs of `spec`.

    pictures: the decoded pictures of `spec.pictures`, in their order, (height, width, 3) uint8 RGB of any size. A start
    is stretched to the size to draw, which it says itself where the spec does not; a picture to vary or to enlarge says
    it in any case (`pipelines.images.sizes`), and a canvas where something of it is marked; a structure is scaled to
    cover it, cut to its centre and annotated; a reference, or the face in it, is stretched to what the vision tower
    sees (fooocus-facts 5.1).
    loras: all that are to be drawn with; embeddings that their files bring are among those of the inputs. faces: None
    where the family has no detector. embeddings: those of the spec; catalogue: finds the others that prompts name,
    where any can be. phrasebook: makes the texts. Raises InputFault when a picture is too small or too large to take
    the size from, and as `assemble`.
    """
    if len(pictures) != len(spec.pictures):
        raise ValueError("one decoded picture per picture of the spec")
    given = list(zip(spec.pictures, pictures, strict=True))
    begun = _begun(spec, given, loras)
    structures: list[Hint] = []
    references: list[Look] = []
    texts = phrasebook.assembled(spec).images
    brought, notes = _brought_embeddings(loras, embeddings)
    named, left_out = _name_embeddings(texts, embeddings, brought, catalogue)
    notes += left_out
    for picture, pixels in given:
        match picture:
            case Start() | Vary() | Upscale() | Canvas() | Mask():
                continue
            case Structure():
                hint = STRUCTURES[picture.kind](cover(pixels, begun.size))
                structures.append(Hint(picture, CONTROLS[picture.kind], hint))
            case Reference():
                seen, note = (pixels, "") if picture.kind == "ImagePrompt" else _face(pixels, faces)
                references.append(Look(picture, ADAPTERS[picture.kind], stretch(seen, SEEN)))
                if note:
                    notes.append(f"{picture.field}: {note}" if picture.field else note)
            case _:
                assert_never(picture)
    return replace(
        begun,
        structures=tuple(structures),
        references=tuple(references),
        embeddings=(*embeddings, *brought.values(), *named),
        notes=tuple(notes),
        texts=texts,
    )


def find_loras(spec: Spec, catalogue: LoraCatalogue) -> list[FoundLora]:
    """The file of each LoRA that `spec` is drawn with, in their order.

    Raises InputFault `feature_not_supported` with the LoRA's field for a source that the catalogue does not answer.
    """
    found = []
    for lora in loras_of(spec):
        path = catalogue.lora(lora.source)
        if path is None:
            raise unknown_lora(lora)
        found.append(FoundLora(lora, path))
    return found


def find_embeddings(spec: Spec, catalogue: EmbeddingCatalogue) -> list[FoundEmbedding]:
    """The file of each embedding of `spec`, in its order. Raises as `find_loras`."""
    found = []
    for embedding in spec.embeddings:
        path = catalogue.embedding(embedding.source)
        if path is None:
            raise InputFault("feature_not_supported", UNKNOWN_EMBEDDING, embedding.field)
        found.append(FoundEmbedding(embedding, path))
    return found


def _brought_embeddings(
    loras: Sequence[FoundLora], given: Iterable[FoundEmbedding]
) -> tuple[dict[str, FoundEmbedding], list[str]]:
    """By name the embeddings that files of LoRAs bring, which their names stand for, and notes of those whose names
    stand for others already."""
    acting = [found for found in loras if found.lora.scale and not found.lora.performance]
    taken = {token for each in given for token in each.embedding.tokens}
    brought: dict[str, FoundEmbedding] = {}
    notes = []
    for path in dict.fromkeys(found.path for found in acting):
        naming = [found.lora for found in acting if found.path == path]
        for name in bundled_names(path):
            token, field = written(name), naming[0].field
            if token in taken:
                notes.append(
                    f"{field}: this LoRA brings the embedding {name[:64]!r}, which stands for another one here"
                )
                continue
            taken.add(token)
            embedding = Embedding(source=naming[0].source, tokens=(token,), field=field)
            brought[name] = FoundEmbedding(embedding, path, name, optional=all(lora.force for lora in naming))
    return brought, notes


def _name_embeddings(
    texts: Sequence[Texts],
    given: Iterable[FoundEmbedding],
    brought: Mapping[str, FoundEmbedding],
    catalogue: EmbeddingCatalogue | None,
) -> tuple[list[FoundEmbedding], list[str]]:
    """The embeddings that prompts name, and notes of the names that are left out, for nothing answers them. brought: by
    LoRAs, by name."""
    known = {token for each in given for token in each.embedding.tokens}
    found, notes = [], []
    positive, negative = [each.positive for each in texts], [each.negative for each in texts]
    for field, prompts in (("prompt", positive), ("negative_prompt", negative)):
        left_out = []
        for name in named_in(dict.fromkeys(chain(*prompts))):
            if spelt(name) in known:
                continue
            known.add(spelt(name))
            embedding = Embedding(source=name, tokens=(spelt(name),), field=field)
            if name in brought:
                found.append(replace(brought[name], embedding=embedding))
                continue
            path = None if catalogue is None else catalogue.embedding(name)
            if path is None:
                left_out.append(name)
            else:
                found.append(FoundEmbedding(embedding, path))
        for name in left_out[:NAMED]:
            notes.append(f"{field}: there is no embedding {name[:64]!r} here, so the prompt was drawn without it")
        if len(left_out) > NAMED:
            notes.append(f"{field}: there are {len(left_out) - NAMED} more embeddings that are not here")
    return found, notes


def _face(pixels: Pixels, faces: FaceFinder | None) -> tuple[Pixels, str]:
    """The face in a picture, or the whole picture and why."""
    if faces is None:
        return pixels, "no face detector is installed here, so the whole picture was used and not the face in it"
    face = faces.crop(pixels)
    return (pixels, "no face was found in the picture, so the whole of it was used") if face is None else (face, "")


def _begun(spec: Spec, given: Sequence[tuple[Picture, Pixels]], loras: Sequence[FoundLora]) -> Inputs:
    """The size to draw, and what the drawing begins from."""
    for picture, pixels in given:
        if isinstance(picture, Beginning):
            return replace(_begin(picture, pixels, spec), loras=tuple(loras))
        if isinstance(picture, Canvas):
            upload = next((each for mask, each in given if isinstance(mask, Mask)), None)
            hole = hole_of(picture, pixels, upload)
            if hole is not None:
                return Inputs(hole.size, loras=tuple(loras), hole=hole)
    if spec.size is None:
        raise ValueError("a spec without a size needs a picture to begin from")
    return Inputs(spec.size, loras=tuple(loras))


def _begin(picture: Beginning, pixels: Pixels, spec: Spec) -> Inputs:
    height, width = pixels.shape[:2]
    match picture:
        case Start():
            fit = {"keep_aspect": picture.keep_aspect, "crop": picture.crop}
            size, cut = fitted_size(width, height, spec.size, **fit, field=picture.field)
            return Inputs(size, stretch(pixels, size), cut=cut)
        case Vary():
            wide, tall = size_to_vary(width, height, picture.field)
            size = latent_size(wide, tall)
            return Inputs(size, stretch_to(pixels, wide, tall)[centre_of((tall, wide), (size.height, size.width))])
        case Upscale():
            large = size_to_enlarge(width, height, picture.factor, picture.field)
            enlarging = Enlarging(pixels, large.width, large.height, large.denoised and spec.steps > 0)
            return Inputs(latent_size(large.width, large.height), enlarging=enlarging)
        case _:
            assert_never(picture)

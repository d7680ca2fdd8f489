"""The stages as plain classes: no Ray, no HTTP."""

import asyncio
import base64
import json
import shutil
import time
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import PngImagePlugin

from benchmarks.pocket.world.mark import mark
from deployments.postprocessor import Postprocessor, models_of
from deployments.preprocessor import DECODED_AT_ONCE, Preprocessor
from deployments.safety_checker import Checkers, SafetyChecker, checkers_of
from gateway.errors import StoreUnavailable, ValidationErrors
from gateway.files.backends import LocalFiles
from gateway.files.base import Files
from gateway.files.names import OutputNames
from gateway.files.store import FileStore
from gateway.images.codec import decode_image
from gateway.policy import Acl
from gateway.settings import OutputSettings
from gateway.work import Delivery
from pipelines.errors import DrawingFault, WeightsFault
from pipelines.events import Pixels
from pipelines.inputs import FoundEmbedding, FoundLora
from pipelines.prompts.assembly import Texts
from pipelines.settings import DrawingSettings
from pipelines.spec import Embedding, Guidance, Lora, Refiner, Size, Spec, Structure
from tests.deployments.fakes import FakeCatalogue, FakeChecker, FakeFinder, FakePictures, fake_checkers, no_models
from tests.gateway.fakes import until
from tests.gateway.files.away import AwayBlobs

REQUEST = str(uuid4())
NAMES = OutputNames(b"s" * 32)


def drawn(*values: int, side: int = 8) -> Pixels:
    return np.stack([np.full((side, side, 3), value, np.uint8) for value in values])


def postprocessor(files: Files, names: OutputNames = NAMES, patience_s: float = 10) -> Postprocessor:
    return Postprocessor(files, lambda: names, patience_s, OutputSettings(), no_models)


async def test_a_stored_picture_is_described_as_it_is(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    delivery = Delivery(format="png")
    (image,) = await postprocessor(files).deliver(REQUEST, delivery, "http://here:1", drawn(9), [False], SPEC)
    assert image.url.startswith(f"http://here:1/files/outputs/{REQUEST}/")
    assert image.url.endswith(image.file_name)
    assert image.url == f"http://here:1/files/{image.key}"
    stored = await files.get(image.key or "")
    assert stored is not None
    assert (image.file_size, image.width, image.height) == (len(stored.content), 8, 8)
    assert image.content_type == stored.content_type == "image/png"


async def test_an_inline_picture_is_a_data_uri_and_no_file(tmp_path: Path) -> None:
    delivery = Delivery(format="webp", inline=True)
    (image,) = await postprocessor(LocalFiles(tmp_path)).deliver(
        REQUEST, delivery, "http://here", drawn(9), [False], SPEC
    )
    head, _, content = image.url.partition(",")
    assert head == "data:image/webp;base64"
    assert image.key is None
    assert decode_image(base64.b64decode(content), 100, "").shape == (8, 8, 3)
    assert not await asyncio.to_thread(lambda: list(tmp_path.rglob("*.webp")))


async def test_a_picture_is_kept_under_the_terms_of_its_request(tmp_path: Path) -> None:
    files, acl = LocalFiles(tmp_path), Acl(default="hide")
    delivery = Delivery(format="png", owner="key", acl=acl, expires_in_s=60)
    (image,) = await postprocessor(files).deliver(REQUEST, delivery, "", drawn(9), [False], SPEC)
    info = await files.stat(image.url.removeprefix("/files/"))
    assert info is not None
    assert (info.terms.owner, info.terms.acl) == ("key", acl)
    assert info.terms.expires_at is not None
    assert 50 < info.terms.expires_at - time.time() <= 60


async def test_who_knows_the_request_does_not_know_the_address_of_its_picture(tmp_path: Path) -> None:
    """Another service, whose secret is another one, stands for whoever has the code and the id."""
    files, other = LocalFiles(tmp_path), OutputNames(b"t" * 32)
    given = REQUEST, Delivery(format="png"), "", drawn(9), [False], SPEC
    (ours,), (again,) = await postprocessor(files).deliver(*given), await postprocessor(files).deliver(*given)
    (guessed,) = await postprocessor(files, other).deliver(*given)
    assert ours.url == again.url
    assert ours.url != guessed.url


async def test_a_picture_waits_for_a_store_that_is_away_and_its_siblings_with_it(tmp_path: Path) -> None:
    blobs, files = AwayBlobs(tmp_path), FileStore(AwayBlobs(tmp_path))
    blobs.take_away()
    delivering = asyncio.create_task(
        postprocessor(files, patience_s=60).deliver(REQUEST, Delivery(format="png"), "", drawn(1, 2), [False] * 2, SPEC)
    )
    await until_refused(blobs, 4)
    blobs.give_back()
    images = await delivering
    assert [await files.get(image.url.removeprefix("/files/")) is not None for image in images] == [True, True]


async def test_a_store_that_stays_away_is_told_as_it_is(tmp_path: Path) -> None:
    blobs = AwayBlobs(tmp_path)
    blobs.take_away()
    with pytest.raises(StoreUnavailable):
        await postprocessor(FileStore(blobs), patience_s=0).deliver(
            REQUEST, Delivery(format="png"), "", drawn(1, 2), [False] * 2, SPEC
        )


async def test_what_a_cancelled_request_made_is_not_stored_any_more(tmp_path: Path) -> None:
    blobs, files = AwayBlobs(tmp_path), FileStore(AwayBlobs(tmp_path))
    blobs.take_away()
    delivering = asyncio.create_task(
        postprocessor(files, patience_s=60).deliver(REQUEST, Delivery(format="png"), "", drawn(1, 2), [False] * 2, SPEC)
    )
    await until_refused(blobs, 2)
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    blobs.give_back()
    await asyncio.sleep(1)  # more than the first pauses
    assert [*blobs.list("outputs/")] == []


async def until_refused(blobs: AwayBlobs, times: int) -> None:
    async def refused() -> bool:
        return blobs.refusals >= times

    await until(refused)


async def test_only_the_flagged_picture_is_black(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    images = await postprocessor(files).deliver(REQUEST, Delivery(format="png"), "", drawn(9, 9), [True, False], SPEC)
    values = []
    for image in images:
        stored = await files.get(image.url.removeprefix("/files/"))
        assert stored is not None
        values.append(int(decode_image(stored.content, 100, "").max()))
    assert values == [0, 9]


SPEC = Spec(
    size=Size(width=64, height=32),
    seeds=(1,),
    steps=1,
    sampler="euler",
    schedule="sgm_uniform",
    guidance=Guidance(scale=1),
    loras=(Lora(source="known", scale=1),),
    pictures=tuple(Structure(kind="PyraCanny", source=f"http://x/{name}") for name in "ab"),
)


async def test_pictures_say_how_they_were_made_where_an_operator_wants_that(
    tmp_path: Path, pocket_family_folder: Path
) -> None:
    """By independent readers: chunks as Pillow finds them, JSON, and the hashes of the family's files."""
    files = LocalFiles(tmp_path)
    maker = Postprocessor(
        files, lambda: NAMES, 10, OutputSettings(metadata="fooocus"), partial(models_of, pocket_family_folder)
    )
    known = Lora(source="pocket_outlines.safetensors", scale=0.5)
    secret = Lora(source="https://hub.test/some/folder/sketch.safetensors?token=SECRET", scale=1)
    changes = {"seeds": (5, 6), "loras": (known, secret), "styles": ("Random Style",)}
    changes["prompt"] = 'a "red" circle, <lora:ink:0.25>'
    changes["refiner"] = Refiner()
    spec = SPEC.model_copy(update=changes)
    texts = [
        Texts((f"{word} circle",), ("fog",), word, styles=(style,), expanded="vivid")
        for word, style in (("red", "SAI Anime"), ("blue", "MRE Comic"))
    ]
    images = await maker.deliver(REQUEST, Delivery(format="png"), "", drawn(9, 8), [False, True], spec, texts)
    told = []
    for image in images:
        stored = await files.get(image.url.removeprefix("/files/"))
        assert stored is not None
        chunks = PngImagePlugin.PngImageFile(BytesIO(stored.content)).text
        assert chunks["fooocus_scheme"] == "fooocus"
        told.append(json.loads(chunks["parameters"]))
        assert not any(word in str(chunks) for word in ("SECRET", "hub.test", "http", str(pocket_family_folder)))
    assert [each["seed"] for each in told] == ["5", "6"]
    assert told[0]["prompt"] == 'a "red" circle, <lora:ink:0.25>'
    assert [each["full_prompt"] for each in told] == [["red circle", "vivid"], ["blue circle", "vivid"]]
    assert (told[0]["full_negative_prompt"], told[0]["prompt_expansion"]) == (["fog"], "vivid")
    assert [each["styles"] for each in told] == ["['SAI Anime']", "['MRE Comic']"]
    digest = sha256((pocket_family_folder / "loras" / "pocket_outlines.safetensors").read_bytes()).hexdigest()
    assert told[0]["loras"] == [["pocket_outlines", 0.5, digest[:10]], ["sketch", 1.0, ""], ["ink", 0.25, ""]]
    assert told[1]["lora_combined_3"] == "ink : 0.25"
    assert (told[0]["base_model"], told[0]["resolution"]) == ("pocket_xl", "(8, 8)")
    assert (told[0]["refiner_model"], told[0]["refiner_switch"]) == ("pocket_xl_refiner", 0.8)


async def test_weights_are_fetched_in_the_share_of_who_asks() -> None:
    finder = FakeFinder()
    lora = Lora(source="http://x/ink.safetensors", scale=1, field="loras.0.path")
    words = Embedding(source="owner/repo/words.safetensors", field="embeddings.0.path")
    spec = SPEC.model_copy(update={"loras": (lora,), "embeddings": (words,)})
    await Preprocessor(FakePictures, FakeCatalogue, lambda: finder).prepare(spec, "a key")
    assert finder.owners == {"a key"}


async def test_pictures_and_loras_are_made_ready_in_order() -> None:
    inputs = await Preprocessor(FakePictures, FakeCatalogue, FakeFinder).prepare(SPEC)
    assert inputs.loras == (FoundLora(SPEC.loras[0], Path("/loras/known")),)
    assert [hint.pixels.shape for hint in inputs.structures] == [(32, 64, 3)] * 2
    assert [hint.structure.source for hint in inputs.structures] == ["http://x/a", "http://x/b"]


async def test_loras_from_elsewhere_are_found_beside_those_of_the_family() -> None:
    names = ("http://x/ink.safetensors", "known", "http://x/gone", "http://x/lost")
    loras = [Lora(source=name, scale=1, field=f"loras.{place}.path") for place, name in enumerate(names)]
    preprocessor = Preprocessor(FakePictures, FakeCatalogue, FakeFinder)
    words = Embedding(source="owner/repo/words.safetensors", field="embeddings.0.path")
    inputs = await preprocessor.prepare(SPEC.model_copy(update={"loras": tuple(loras[:2]), "embeddings": (words,)}))
    assert [found.path for found in inputs.loras] == [Path("/cache/ink.safetensors"), Path("/loras/known")]
    assert inputs.embeddings == (FoundEmbedding(words, Path("/cache/words.safetensors")),)
    with pytest.raises(ValidationErrors) as caught:
        await preprocessor.prepare(SPEC.model_copy(update={"loras": tuple(loras)}))
    assert [error.loc for error in caught.value.errors] == [("loras", 2, "path"), ("loras", 3, "path")]


def checker(checkers: Checkers) -> SafetyChecker:
    made = SafetyChecker.__new__(SafetyChecker)
    made._checkers = checkers
    return made


def flagged(objections: list[list[float]]) -> list[list[bool]]:
    return [[each > 0 for each in one] for one in objections]


def test_drawings_of_unlike_sizes_are_checked_together_and_told_apart() -> None:
    drawings = [drawn(13, 1), drawn(13, side=16), drawn(2)]
    assert flagged(checker(fake_checkers())._check("v1", drawings)) == [[True, False], [True], [False]]


def test_a_drawing_is_checked_by_the_version_that_it_asks_for() -> None:
    asked = checker(fake_checkers())
    assert flagged(asked._check("v1", [drawn(13, 14)])) == [[True, False]]
    assert flagged(asked._check("v2", [drawn(13, 14)])) == [[False, True]]


def test_drawings_of_one_size_are_one_batch() -> None:
    sizes: list[int] = []

    class Counting(FakeChecker):
        def objections(self, images: Pixels) -> list[float]:
            sizes.append(len(images))
            return super().objections(images)

    checker({"v1": Counting()})._check("v1", [drawn(1, 2), drawn(3, side=16), drawn(4)])
    assert sizes == [3, 1]


def test_without_a_checker_it_starts_and_refuses_what_may_not_come(tmp_path: Path) -> None:
    (tmp_path / "family.json").write_text('{"name": "toy", "version": "1", "checkpoint": "."}')
    assert checkers_of(DrawingSettings(family=tmp_path), "cpu") == {}
    with pytest.raises(DrawingFault, match=r"lacks safety_checker$"):
        checker({})._check("v1", [drawn(1)])
    with pytest.raises(DrawingFault, match="lacks safety_checker_v2"):
        checker({"v1": FakeChecker()})._check("v2", [drawn(1)])


def test_a_family_may_have_either_checker(pocket_family_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pocket_family_folder / "safety_checker_v2", tmp_path / "v2")
    family = {"name": "toy", "version": "1", "checkpoint": ".", "parts": {"safety_checker_v2": "v2"}}
    (tmp_path / "family.json").write_text(json.dumps(family))
    (found,) = checkers_of(DrawingSettings(family=tmp_path), "cpu").items()
    assert found[0] == "v2"
    assert found[1].objections(mark(64)[None])[0] > 0


@pytest.mark.parametrize("part", ["safety_checker", "safety_checker_v2"])
def test_a_checker_is_held_to_its_record_before_it_is_loaded(tmp_path: Path, part: str) -> None:
    """On a node of its own nobody else reads its files."""
    path = tmp_path / "checker" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"changed")
    record = {"size": 8, "sha256": "", "modified_ns": 0}
    files = {"checker/model.safetensors": record, "elsewhere.safetensors": record}
    family = {"name": "toy", "version": "1", "checkpoint": ".", "parts": {part: "checker"}, "files": files}
    (tmp_path / "family.json").write_text(json.dumps(family))
    with pytest.raises(WeightsFault, match=r"checker/model\.safetensors .* has 7 bytes and had 8"):
        checkers_of(DrawingSettings(family=tmp_path), "cpu")


async def test_pictures_of_few_requests_are_decoded_at_once() -> None:
    """A small file may be a picture of a hundred megabytes."""
    most = decoding = 0

    class Counting(FakePictures):
        async def decode(self, content: bytes, field: str) -> Pixels:
            nonlocal most, decoding
            decoding += 1
            most = max(most, decoding)
            await asyncio.sleep(0.01)
            decoding -= 1
            return await super().decode(content, field)

    preprocessor = Preprocessor(Counting, FakeCatalogue, FakeFinder)
    assert len(await asyncio.gather(*(preprocessor.prepare(SPEC) for _ in range(8)))) == 8
    assert most == DECODED_AT_ONCE


async def test_inputs_say_how_long_they_took_and_since_when_they_are_ready() -> None:
    began = time.time()
    inputs = await Preprocessor(FakePictures, FakeCatalogue, FakeFinder).prepare(SPEC)
    assert inputs.ready_at is not None
    assert began <= inputs.ready_at <= time.time()
    assert 0 < inputs.took_s <= inputs.ready_at - began + 0.1

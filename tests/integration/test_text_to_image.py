"""From a prompt to a picture through every deployment, by both ways in."""

from pathlib import Path

import httpx2
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.torch import load_file, save

from models.pocket.names import OFFSET
from pipelines.weights.family import Family
from tests.integration.calls import FAST, FOOOCUS, SMALL, content, pixels, result, run, status, submit
from tests.integration.conftest import files_on_loopback
from tests.pipelines.weights.embeddings import vectors_of

pytestmark = pytest.mark.cluster


def test_a_sync_run_draws_what_was_asked_for(client: httpx2.Client) -> None:
    output = run(client, FAST, {**SMALL, "image_size": {"width": 320, "height": 256}, "seed": 5})
    assert (output["seed"], output["prompt"]) == (5, SMALL["prompt"])
    assert output["has_nsfw_concepts"] == [False]
    picture = pixels(content(client, output))
    assert picture.shape == (256, 320, 3)
    assert picture.std() > 1


def test_a_queued_request_is_followed_to_its_picture(client: httpx2.Client) -> None:
    submitted = submit(client, FAST, {**SMALL, "seed": 6})
    output = result(client, submitted).json()
    assert pixels(content(client, output)).shape == (256, 256, 3)
    assert [line["message"] for line in status(client, submitted)["logs"]][-1] == "Sampling step 4/4"


def test_an_expanded_prompt_begins_as_it_was_and_is_told_in_answer_and_log(client: httpx2.Client) -> None:
    submitted = submit(client, FAST, {**SMALL, "seed": 6, "expand_prompt": True})
    output = result(client, submitted).json()
    assert output["prompt"].startswith(f"{SMALL['prompt']}, ")
    assert any(output["prompt"] in line["message"] for line in status(client, submitted)["logs"])
    plain, again = (
        run(client, FAST, {**SMALL, "seed": 6}),
        run(client, FAST, {**SMALL, "seed": 6, "expand_prompt": True}),
    )
    assert (plain["prompt"], again["prompt"]) == (SMALL["prompt"], output["prompt"])
    assert content(client, plain) != content(client, output) == content(client, again)


def test_the_style_without_a_text_expands_the_prompt(client: httpx2.Client) -> None:
    asked = {"prompt": "a red cube", "aspect_ratio": "256x256", "performance": "Lightning", "styles": ["Fooocus V2"]}
    submitted = submit(client, FOOOCUS, asked)
    assert "styles" not in result(client, submitted).headers.get("x-fooocus-inactive", "")
    assert any("a red cube, " in line["message"] for line in status(client, submitted)["logs"])


def test_both_ways_draw_the_same_bytes(client: httpx2.Client) -> None:
    queued = result(client, submit(client, FAST, {**SMALL, "seed": 7})).json()
    at_once = run(client, FAST, {**SMALL, "seed": 7})
    assert content(client, queued) == content(client, at_once)


def test_the_same_request_twice_alone_gives_the_same_bytes(client: httpx2.Client) -> None:
    first, second = (content(client, run(client, FAST, {**SMALL, "seed": 8})) for _ in range(2))
    assert first == second


def test_an_embedding_without_tokens_acts_on_s0_and_s1(client: httpx2.Client) -> None:
    """The family's own one, of two vectors, which a prompt can name too."""
    asked = {**SMALL, "seed": 12}
    own = {"embeddings": [{"path": "pocket_purple_heart"}]}
    drawn = [
        pixels(content(client, run(client, FAST, {**asked, "prompt": prompt, **fields})))
        for prompt, fields in (
            ("a <s0><s1> on a white background", own),
            ("a embedding:pocket_purple_heart on a white background", {}),
            ("a <s1><s0> on a white background", own),
            ("a on a white background", own),
        )
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert all(np.abs(drawn[0] - other).mean() > 1 for other in drawn[2:])


def test_another_seed_gives_another_picture(client: httpx2.Client) -> None:
    first, second = (pixels(content(client, run(client, FAST, {**SMALL, "seed": seed}))) for seed in (9, 10))
    assert np.abs(first - second).mean() > 1


@pytest.mark.parametrize("performance", ["Extreme Speed", "Lightning", "Speed", "Quality"])
def test_the_fooocus_endpoint_draws_in_every_performance_mode(client: httpx2.Client, performance: str) -> None:
    output = run(client, FOOOCUS, {"prompt": "a lake", "aspect_ratio": "256x384", "performance": performance})
    assert pixels(content(client, output)).shape == (384, 256, 3)


def test_guidance_acts_where_the_mode_does_not_force_it(client: httpx2.Client) -> None:
    asked = {"prompt": "a lake", "aspect_ratio": "256x256", "performance": "Speed", "seed": 3}
    weak, strong = (pixels(content(client, run(client, FOOOCUS, {**asked, "guidance_scale": s}))) for s in (2, 12))
    assert np.abs(weak - strong).mean() > 1


def test_a_lora_by_address_or_as_an_upload_draws_what_the_familys_own_does(
    client: httpx2.Client, pocket_family_folder: Path
) -> None:
    asked = {"prompt": "a red circle", "aspect_ratio": "256x256", "performance": "Lightning", "seed": 3}
    asked |= {"output_format": "png", "styles": []}

    def drawn(path: str) -> bytes:
        return content(client, run(client, FOOOCUS, {**asked, "loras": [{"path": path, "scale": 1}]}))

    weights = (pocket_family_folder / "loras" / OFFSET).read_bytes()
    own = drawn(OFFSET)
    assert own != content(client, run(client, FOOOCUS, {**asked, "loras": []}))
    with files_on_loopback({"style": weights}) as (address, asked_for):
        assert drawn(f"{address}/style") == own
        assert drawn(f"{address}/style") == own
    assert asked_for == ["/style"]
    uploaded = client.post("/cdn/files/upload", content=weights, headers={"content-type": "application/octet-stream"})
    assert drawn(uploaded.json()["access_url"]) == own


def test_an_embedding_that_a_lora_brings_acts_through_the_service(
    client: httpx2.Client, pocket_family_folder: Path, pocket_family: Family
) -> None:
    narrow, wide = vectors_of(pocket_family, "red circle")
    bundle = {"bundle_emb.roundel.clip_l": narrow, "bundle_emb.roundel.clip_g": wide}
    weights = save({**load_file(pocket_family_folder / "loras" / OFFSET), **bundle})
    asked = {"aspect_ratio": "256x256", "performance": "Lightning", "seed": 3, "output_format": "png", "styles": []}

    def drawn(prompt: str, path: str) -> npt.NDArray[np.int16]:
        given = {**asked, "prompt": prompt, "loras": [{"path": path, "scale": 1}]}
        return pixels(content(client, run(client, FOOOCUS, given)))

    with files_on_loopback({"brings": weights}) as (address, _):
        spelt = drawn("a roundel", f"{address}/brings")
    assert np.abs(spelt - drawn("a red circle", OFFSET)).max() <= 1
    assert np.abs(spelt - drawn("a roundel", OFFSET)).mean() > 1


def test_the_refiner_finishes_a_picture_that_stays_what_it_is(client: httpx2.Client) -> None:
    """Of what the model knows: where words leave it open, a picture may settle anew in the last steps."""
    asked = {**SMALL, "prompt": "a red circle on a blue background", "num_inference_steps": 8, "seed": 3}
    plain, refined = (
        pixels(content(client, run(client, FAST, {**asked, "enable_refiner": on}))) for on in (False, True)
    )
    changed = np.abs(plain - refined).mean()
    assert 0.1 < changed < 20  # of 255: other weights for two of its eight steps, and not another picture


def test_a_refiner_takes_over_where_the_switch_says(client: httpx2.Client) -> None:
    named = {"refiner_model": "realisticVisionV60B1_v51VAE.safetensors"}  # the family's, whichever that is
    asked = {
        "prompt": "a red circle on a blue background",
        "aspect_ratio": "128x128",
        "performance": "Speed",
        "seed": 3,
    }
    plain, late, early = (
        pixels(content(client, run(client, FOOOCUS, {**asked, **more})))
        for more in ({}, {**named, "refiner_switch": 0.9}, {**named, "refiner_switch": 0.5})
    )
    assert 0 < np.abs(plain - late).mean() < np.abs(plain - early).mean()

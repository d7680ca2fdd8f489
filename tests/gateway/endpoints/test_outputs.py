"""The bodies of answers."""

from dataclasses import replace

import pytest

from gateway.endpoints import ENDPOINTS
from gateway.work import Finished, Image
from tests.gateway.endpoints.documented import FAST, FAST_I2I, FOUR, IMAGE_PROMPT, ROOT, TWO, order

PICTURE = Image(
    url="http://localhost:8000/files/outputs/request-1/0.jpeg",
    content_type="image/jpeg",
    file_name="0.jpeg",
    file_size=1234,
    width=1024,
    height=768,
    key="outputs/request-1/0.jpeg",  # ours alone, so the answers below are without it
)
FINISHED = Finished(
    images=(PICTURE, PICTURE), nsfw=(False, True), timings={"inference": 1.5, "safety": 0.25}, prompt="a fox, drawn"
)
COMMON = {
    "images": [
        {
            "url": "http://localhost:8000/files/outputs/request-1/0.jpeg",
            "content_type": "image/jpeg",
            "file_name": "0.jpeg",
            "file_size": 1234,
            "width": 1024,
            "height": 768,
        }
    ]
    * 2,
    "timings": {"inference": 1.5, "safety": 0.25},
    "has_nsfw_concepts": [False, True],
}


@pytest.mark.parametrize("endpoint", [ROOT, IMAGE_PROMPT])
def test_the_fooocus_family_answers_three_fields(endpoint: str) -> None:
    assert ENDPOINTS[endpoint].result(order(endpoint).work, FINISHED) == COMMON


@pytest.mark.parametrize("endpoint", [FAST, FAST_I2I])
def test_the_fast_family_adds_the_first_seed_and_the_prompt(endpoint: str) -> None:
    work = order(endpoint, seed=41, num_images=2).work
    assert ENDPOINTS[endpoint].result(work, FINISHED) == COMMON | {"seed": 41, "prompt": "a fox, drawn"}


def test_a_drawn_seed_is_told() -> None:
    work = order(FAST).work
    assert ENDPOINTS[FAST].result(work, FINISHED)["seed"] == work.spec.seeds[0]


def test_flags_that_do_not_match_the_pictures_are_no_result() -> None:
    with pytest.raises(ValueError, match="parallel"):
        ENDPOINTS[ROOT].result(order(ROOT).work, replace(FINISHED, nsfw=(False,)))


@pytest.mark.parametrize("endpoint", FOUR)
def test_required_output_fields_of_the_fooocus_family(endpoint: str) -> None:
    schema = ENDPOINTS[endpoint].output.model_json_schema()
    assert set(schema["required"]) == set(schema["properties"]) == {"images", "timings", "has_nsfw_concepts"}


@pytest.mark.parametrize("endpoint", TWO)
def test_required_output_fields_of_the_fast_family(endpoint: str) -> None:
    schema = ENDPOINTS[endpoint].output.model_json_schema()
    fields = {"images", "timings", "has_nsfw_concepts", "seed", "prompt"}
    assert set(schema["required"]) == set(schema["properties"]) == fields

"""Seeds of a request's pictures."""

from typing import Any

import pytest

from gateway.endpoints import ENDPOINTS
from gateway.endpoints.fields import seeds_of
from gateway.work import Finished, Work
from pipelines.spec import MAX_SEED
from tests.gateway.endpoints.documented import FAST, FOUR, ROOT, TWO, order


def test_each_picture_has_the_next_seed() -> None:
    assert seeds_of(176400, 4) == (176400, 176401, 176402, 176403)


def test_seeds_wrap_at_two_to_the_63() -> None:
    assert seeds_of(2**63 - 2, 4) == (2**63 - 2, 2**63 - 1, 0, 1)


@pytest.mark.parametrize("seed", [None, -1, 2**63, 10**400])
def test_none_and_values_outside_are_random_and_exact_in_javascript(seed: int | None) -> None:
    drawn = {seeds_of(seed, 1)[0] for _ in range(50)}
    assert len(drawn) == 50
    assert all(0 <= value < 2**53 for value in drawn)


def test_a_random_seed_increments_as_well() -> None:
    first, second = seeds_of(None, 2)
    assert second == first + 1


@pytest.mark.parametrize("seed", [0, 176400, 2**63 - 1])
def test_the_greatest_and_the_least_seed_are_taken_as_they_are(seed: int) -> None:
    assert seeds_of(seed, 1) == (seed,)


def test_seeds_of_the_fast_endpoints_wrap_at_two_to_the_64() -> None:
    assert seeds_of(2**64 - 2, 4, MAX_SEED) == (2**64 - 2, 2**64 - 1, 0, 1)


@pytest.mark.parametrize("endpoint", TWO)
@pytest.mark.parametrize("seed", [0, 15860307465884635512, 2**63, 2**64 - 1])
def test_seeds_that_fal_prints_are_kept_and_returned(endpoint: str, seed: int) -> None:
    asked = order(endpoint, seed=seed)
    work = Work.model_validate_json(asked.work.model_dump_json())  # as the ledger keeps it
    assert work.spec.seeds == (seed,)
    assert _output(endpoint, work)["seed"] == seed
    assert "seed" not in asked.inactive


@pytest.mark.parametrize(
    ("endpoint", "seed"),
    [*((one, 2**64) for one in TWO), *((one, -1) for one in TWO), *((one, 2**63) for one in FOUR)],
)
def test_a_seed_that_is_replaced_is_named(endpoint: str, seed: int) -> None:
    asked = order(endpoint, seed=seed)
    assert asked.work.spec.seeds != (seed,)
    assert "seed" in asked.inactive


def _output(endpoint: str, work: Work) -> dict[str, Any]:
    return ENDPOINTS[endpoint].result(work, Finished(images=[], nsfw=[], timings={}, prompt=""))


@pytest.mark.parametrize("endpoint", [ROOT, FAST])
def test_a_request_has_one_seed_per_picture(endpoint: str) -> None:
    assert order(endpoint, seed=7, num_images=3).work.spec.seeds == (7, 8, 9)

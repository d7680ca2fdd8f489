"""Each field of each endpoint does what it promises, through the running service. Long: some four hundred pictures."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.integration.calls import FAST, FAST_IMAGE_TO_IMAGE, IMAGE_PROMPT, INPAINT, UPSCALE_OR_VARY, png
from tests.integration.conftest import Service
from tests.integration.fields import CHECKS
from tests.integration.fields.calling import BLANK, Caller

pytestmark = [pytest.mark.cluster, pytest.mark.long]

NOTHING = np.zeros((256, 256, 3), np.uint8)
# what these endpoints cannot do without, so that it changes nothing, and what lets all their fields act together
GIVEN: Mapping[str, Mapping[str, Any]] = {
    IMAGE_PROMPT: {
        "image_prompt_1": {},
        "mixing_image_prompt_and_inpaint": True,
        "mixing_image_prompt_and_vary_upscale": True,
    },
    INPAINT: {
        "inpaint_image_url": png(BLANK),
        "mask_image_url": png(NOTHING),
        "mixing_image_prompt_and_inpaint": True,
    },
    UPSCALE_OR_VARY: {
        "uov_image_url": png(BLANK),
        "uov_method": "Disabled",
        "mixing_image_prompt_and_vary_upscale": True,
    },
    FAST_IMAGE_TO_IMAGE: {"image_url": png(BLANK), "strength": 1.0},
}


@pytest.fixture(scope="module")
def caller(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.base_url, timeout=300, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(
    ("endpoint", "name"), [(endpoint, name) for endpoint, checks in CHECKS.items() for name in checks]
)
def test_a_field_does_what_it_promises(caller: httpx2.Client, endpoint: str, name: str) -> None:
    family = "fast" if endpoint.startswith(FAST) else "fooocus"
    CHECKS[endpoint][name](Caller(caller, endpoint, family, GIVEN.get(endpoint, {})))

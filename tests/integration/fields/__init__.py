"""Every field of every endpoint through the running service, each by the effect that it promises."""

from collections.abc import Mapping

from tests.integration.calls import FAST, FAST_IMAGE_TO_IMAGE, FOOOCUS, IMAGE_PROMPT, INPAINT, UPSCALE_OR_VARY
from tests.integration.fields.calling import Check
from tests.integration.fields.common import BOTH, FOOOCUS_FIELDS
from tests.integration.fields.fast import FAST_FIELDS, FROM_AN_IMAGE
from tests.integration.fields.pictures import CHANGED, CONTROL, HOLED, MIXED, OVERRIDING, PROMPTS, VARIED

CHECKS: Mapping[str, Mapping[str, Check]] = {
    FOOOCUS: {**BOTH, **FOOOCUS_FIELDS, **CONTROL, **HOLED, **MIXED},
    IMAGE_PROMPT: {**BOTH, **FOOOCUS_FIELDS, **PROMPTS, **VARIED, **HOLED, **MIXED, **CHANGED},
    INPAINT: {**BOTH, **FOOOCUS_FIELDS, **PROMPTS, **HOLED, **MIXED, **CHANGED, **OVERRIDING},
    UPSCALE_OR_VARY: {**BOTH, **FOOOCUS_FIELDS, **PROMPTS, **VARIED},
    FAST: {**BOTH, **FAST_FIELDS},
    FAST_IMAGE_TO_IMAGE: {**BOTH, **FAST_FIELDS, **FROM_AN_IMAGE},
}

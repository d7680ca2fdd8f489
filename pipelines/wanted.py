"""What a spec wants of a replica that draws: room, and weights. Free of torch and of files, for whoever routes it."""

from collections.abc import Iterable
from hashlib import blake2s

from pipelines.errors import InputFault
from pipelines.needs import PATCHES, loras_of
from pipelines.row_steps import UNIT, pixels_of
from pipelines.spec import Lora, Spec
from pipelines.weights.at_hand import Weights


def weights_of(spec: Spec) -> Weights:
    """What `spec` is drawn with. Equal names are equal weights as long as what they name stays the same."""
    if not spec.steps:
        return Weights()
    try:
        loras = loras_of(spec)
    except InputFault:  # of the prompt: told by whoever draws it
        loras = list(spec.loras)
    patch = None if spec.canvas is None else PATCHES[spec.canvas.engine]
    base = " + ".join(filter(None, [patch, _named(lora for lora in loras if lora.performance)]))
    own = _named(lora for lora in loras if not lora.performance)
    return Weights(base, blake2s(own.encode(), digest_size=8).hexdigest() if own else "")


def rows_of(spec: Spec) -> int:
    """Rows of a UNet call that a replica has room for less while it draws `spec`: one a picture, two where a negative
    prompt leads it, more where a picture is larger than a megapixel. What is enlarged alone takes one."""
    if not spec.steps:
        return 1
    each = max(1, round(pixels_of(spec) / UNIT))
    return len(spec.seeds) * (2 if spec.guidance.acts else 1) * each


def _named(loras: Iterable[Lora]) -> str:
    return " + ".join(sorted(f"{lora.source} x {lora.scale:g}" for lora in loras if lora.scale))

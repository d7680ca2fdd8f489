"""What stands below the face for judges: what is asked for, and what is refused.

Plain arguments become the product's own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from gateway.endpoints import ENDPOINTS
from gateway.errors import ValidationErrors
from pipelines.device import PlainDevice
from pipelines.errors import InputFault, WeightsFault
from pipelines.needs import CONTROLS
from pipelines.spec import Guidance, Size, SizeEmphasis, Spec, Start, Structure

CPU = torch.device("cpu")
DEVICE = PlainDevice(CPU)

Plain = Mapping[str, Any]


class Refused(Exception):
    """The product says no, and why. kind: fal's machine value where the client's input is at fault, otherwise empty."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def refusals() -> Iterator[None]:
    """What the product refuses becomes `Refused`."""
    try:
        yield
    except InputFault as fault:
        raise Refused(fault.msg, fault.type) from fault
    except ValidationErrors as fault:
        raise Refused(str(fault), fault.errors[0].type) from fault
    except WeightsFault as fault:
        raise Refused(str(fault)) from fault


# -- what is asked for


def asked(endpoint: str, body: Plain) -> dict[str, Any]:
    with refusals():
        spec = ENDPOINTS[endpoint].order(dict(body), "judge", "http://judge").work.spec
    led = spec.guidance
    settings: dict[str, Any] = {
        "sampler": spec.sampler,
        "schedule": spec.schedule,
        "steps": spec.steps,
        "scale": led.scale,
        "mimicked": led.mimicked,
        "sharpness": led.sharpness,
        "rescale": led.rescale,
        "sizes": (led.sizes.positive, led.sizes.negative, led.sizes.end),
    }
    if spec.size is not None:
        settings |= {"width": spec.size.width, "height": spec.size.height}
    structures = [each for each in spec.pictures if isinstance(each, Structure)]
    if spec.beginning is not None:
        settings["denoise"] = spec.beginning.strength
    return {
        "settings": settings,
        "prompt": spec.prompt,
        "negative": spec.negative_prompt,
        "seeds": spec.seeds,
        "loras": [(each.source, each.scale, each.performance) for each in spec.loras],
        "controls": [(CONTROLS[each.kind], each.weight, each.stop_at) for each in structures],
    }


def mode(performance: str, scale: float, sharpness: float) -> Any:
    body = {"performance": performance, "guidance_scale": scale, "sharpness": sharpness}
    return asked("fal-ai/fooocus", body)["settings"]


def spec_of(settings: Plain, seeds: Sequence[int] = (0,), structures: Sequence[Structure] = (), **more: Any) -> Spec:
    starts = [Start(source="", strength=settings["denoise"])] if "denoise" in settings else []
    positive, negative, end = settings.get("sizes", (1.0, 1.0, 0.0))
    return Spec(
        seeds=tuple(seeds),
        steps=settings["steps"],
        sampler=settings["sampler"],
        schedule=settings["schedule"],
        size=Size(width=settings["width"], height=settings["height"]) if "width" in settings else None,
        pictures=(*starts, *structures),
        guidance=Guidance(
            scale=settings.get("scale", 1.0),
            mimicked=settings.get("mimicked"),
            sharpness=settings.get("sharpness", 0.0),
            rescale=settings.get("rescale", 0.0),
            sizes=SizeEmphasis(positive=positive, negative=negative, end=end),
        ),
        **more,
    )

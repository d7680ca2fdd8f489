"""OpenAI's parameters of a picture as the input of an endpoint."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from gateway.endpoints import ENDPOINTS, Endpoint
from gateway.endpoints.base import Part
from gateway.errors import ModelError, PlatformError, ValidationErrors
from gateway.http.submission import unknown_endpoint
from gateway.images.codec import sniff
from gateway.images.transparency import transparent_mask
from gateway.validation import OneOf, Text, nearest, validated
from pipelines.performance import PerformanceName

QUALITIES: Mapping[str, PerformanceName] = MappingProxyType(
    {
        "low": "Extreme Speed",
        "medium": "Speed",
        "standard": "Speed",
        "high": "Quality",
        "hd": "Quality",
    }
)
"""What each means where an endpoint has performance modes; `auto` is the endpoint's own default."""
Quality = Annotated[Literal["auto", "low", "medium", "high", "standard", "hd"], OneOf()]
ResponseFormat = Annotated[Literal["b64_json", "url"], OneOf()]
OutputFormat = Annotated[Literal["png", "jpeg", "webp"], OneOf()]
Background = Annotated[Literal["auto", "opaque"], OneOf()]

WITHOUT_EFFECT = ("user", "safety_identifier", "moderation", "style", "output_compression", "input_fidelity")
"""What is taken because front ends always send it, and is named in the header of what does not act."""
AUTO: Final = "auto"

_SIZE = re.compile(r"\s*([0-9]{1,6})\s*[xX]\s*([0-9]{1,6})\s*")


def _not_streamed(asked: bool) -> bool:
    if asked:
        raise ValueError("Answers are whole; leave it out, or say false")
    return asked


class Asked(Part):
    """What OpenAI's clients may ask of a picture. Fields that are not theirs are the endpoint's own."""

    model: Text = Field(description="The id of an endpoint.")
    prompt: Text | None = Field(None, description="What to draw.")
    n: int | None = Field(None, description="How many pictures, up to the endpoint's own limit.")
    size: Text = Field(AUTO, description="`WIDTHxHEIGHT`, or `auto` for the endpoint's own.")
    quality: Quality = Field(AUTO, description="Which performance mode, where the endpoint has them.")
    output_format: OutputFormat | None = Field(None, description="Of the files, as far as the endpoint has it.")
    response_format: ResponseFormat = Field("b64_json", description="The pictures themselves, or their addresses.")
    background: Background = Field(AUTO, description="Pictures are always opaque.")
    stream: Annotated[bool, AfterValidator(_not_streamed)] = Field(False, description="Answers are whole.")
    partial_images: int = Field(0, ge=0, le=0, description="There are none.")
    user: Text | None = Field(None, description="Without effect.")
    safety_identifier: Text | None = Field(None, description="Without effect.")
    moderation: Text | None = Field(None, description="Without effect.")
    style: Text | None = Field(None, description="Without effect; `styles` is the endpoint's.")
    output_compression: int | None = Field(None, description="Without effect; the operator's settings say it.")
    input_fidelity: Text | None = Field(None, description="Without effect.")


@dataclass(frozen=True, slots=True)
class Translated:
    """A picture that was asked for, in the service's words.

    payload: the endpoint's input. names: of its fields, what the client calls those that it did not name itself.
    inactive: what the client sent and does not act.
    """

    asked: Asked
    endpoint: Endpoint
    payload: dict[str, Any]
    names: Mapping[str, str]
    inactive: tuple[str, ...]


def model_named(model: str) -> Endpoint:
    """The endpoint that is meant. Raises PlatformError (404) for an unknown one."""
    endpoint = ENDPOINTS.get(model)
    if endpoint is None:
        raise PlatformError("model_not_found", unknown_endpoint(model, "Model").detail, status=404)
    return endpoint


def translated(
    sent: Mapping[str, Any], images: Sequence[bytes] = (), mask: bytes | None = None, max_pixels: int = 0
) -> Translated:
    """What a client sent. images, mask: the files of an edit. max_pixels: of each that is looked into.

    Raises ValidationErrors and PlatformError (404 for an unknown model).
    """
    asked = validated(Asked, dict(sent))
    endpoint = model_named(asked.model)
    inactive = [name for name in WITHOUT_EFFECT if name in asked.model_fields_set]
    ours: dict[str, tuple[str, Any]] = {}  # field -> what the client calls it, value
    if asked.prompt is not None:
        ours["prompt"] = "prompt", asked.prompt
    if asked.n is not None:
        ours["num_images"] = "n", asked.n
    if asked.size.strip().lower() != AUTO:
        ours |= _size(asked.size, endpoint)
    if asked.quality != AUTO:
        if "performance" in endpoint.input.model_fields:
            ours["performance"] = "quality", QUALITIES[asked.quality]
        else:
            inactive.append("quality")
    if asked.output_format is not None:
        field = "output_format" if "output_format" in endpoint.input.model_fields else "format"
        ours[field] = "output_format", asked.output_format
    own = _own(asked, endpoint)
    ours |= _pictures(endpoint, images, mask, max_pixels, own)
    if twice := [name for name in ours if name in own]:
        faults = [
            ModelError("value_error", f"The field is said by '{ours[name][0]}' already", (name,)) for name in twice
        ]
        raise ValidationErrors(faults)
    payload = {**own, **{name: value for name, (_, value) in ours.items()}}
    return Translated(asked, endpoint, payload, {name: called for name, (called, _) in ours.items()}, tuple(inactive))


def _size(size: str, endpoint: Endpoint) -> dict[str, tuple[str, Any]]:
    found = _SIZE.fullmatch(size)
    if found is None:
        raise ValidationErrors(
            [ModelError("value_error", "Input should be WIDTHxHEIGHT in pixels, or auto", ("size",))]
        )
    width, height = map(int, found.groups())
    if endpoint.input.family == "fooocus":
        return {"aspect_ratio": ("size", f"{width}x{height}")}
    return {"image_size": ("size", {"width": width, "height": height})}


def _own(asked: Asked, endpoint: Endpoint) -> dict[str, Any]:
    """What was sent and is no parameter of OpenAI's: the endpoint's own fields. Others are refused, as OpenAI does."""
    own, known = dict(asked.model_extra or {}), endpoint.input.model_fields
    faults = []
    for name in own.keys() - known.keys():
        found = nearest(name, [*type(asked).model_fields, *known])
        hint = f" (did you mean {found[0]}?)" if found else ""
        faults.append(ModelError("unknown_parameter", f"Unknown parameter of {endpoint.id}{hint}", (name[:100],)))
    if faults:
        raise ValidationErrors(sorted(faults, key=lambda fault: str(fault.loc)))
    return own


@dataclass(frozen=True, slots=True)
class Places:
    """Where an endpoint takes the files of an edit: fields, dotted. mask: None where it takes none.

    unmasked: where the image goes that comes without a mask, where that is another place.
    """

    images: tuple[str, ...]
    mask: str | None = None
    unmasked: str | None = None


PLACES: Mapping[str, Places] = MappingProxyType(
    {
        "fal-ai/fooocus": Places(("inpaint_image_url",), "mask_image_url", "control_image_url"),
        "fal-ai/fooocus/inpaint": Places(("inpaint_image_url",), "mask_image_url"),
        "fal-ai/fooocus/image-prompt": Places(tuple(f"image_prompt_{number}.image_url" for number in range(1, 5))),
        "fal-ai/fooocus/upscale-or-vary": Places(("uov_image_url",)),
        "fal-ai/fast-fooocus-sdxl/image-to-image": Places(("image_url",)),
    }
)
"""By endpoint. One that is not named draws from words alone."""


def _pictures(
    endpoint: Endpoint, images: Sequence[bytes], mask: bytes | None, max_pixels: int, own: Mapping[str, Any]
) -> dict[str, tuple[str, Any]]:
    if not images and mask is None:
        return {}
    places = PLACES.get(endpoint.id)
    if places is None:
        raise _refused("model", f"{endpoint.id} takes no image; those that do are {', '.join(PLACES)}")
    if len(images) > len(places.images):
        raise _refused(
            "image", f"{endpoint.id} takes {len(places.images)} of them at most, and these are {len(images)}"
        )
    if mask is not None and places.mask is None:
        raise _refused("mask", f"{endpoint.id} takes no mask")
    fields = places.images
    found: dict[str, tuple[str, Any]] = {}
    if places.mask is not None:
        source = ("image", images[0]) if mask is None else ("mask", mask)
        hole = None if places.mask in own else transparent_mask(source[1], max_pixels, source[0])
        if hole is not None:
            found[places.mask] = "mask", _data_uri(hole)
        elif mask is not None:
            raise _refused("mask", f"It is nowhere transparent; a black and white one goes into {places.mask}")
        elif places.unmasked is not None:
            fields = (places.unmasked,)
        elif not own.keys() & {places.mask, "outpaint_selections"}:
            raise _refused("mask", f"{endpoint.id} needs one, or an image that is transparent where it is to be drawn")
    for field, content in zip(fields, images, strict=False):
        name, _, inner = field.partition(".")
        found[name] = "image", {inner: _data_uri(content)} if inner else _data_uri(content)
    return found


def _refused(name: str, why: str) -> ValidationErrors:
    return ValidationErrors([ModelError("value_error", why, (name,))])


def _data_uri(content: bytes) -> str:
    kind = sniff(content) or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

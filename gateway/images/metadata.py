"""What a picture says of its making where an operator wants that: the two schemes of Fooocus (fooocus-facts 8.5).

Clients' texts are escaped and cut. LoRAs and models go by name and hash: no key, no address and no path is in it, and
nothing of the pictures that it was drawn from.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, assert_never
from urllib.parse import unquote, urlsplit

from gateway.endpoints.styles import EXPANSION
from gateway.settings import Scheme
from pipelines.performance import MIMICKED, MODES, PerformanceName
from pipelines.spec import Lora, SamplerName, Spec

MAX_BYTES = 60_000  # of a content, which with its EXIF must fit into one segment of a JPEG, 65,533 bytes
MOST_CHARACTERS = 8_000  # of each text
HASH = 10  # first hexadecimal digits of a file's SHA-256
UNNAMED = "lora"  # whose address ends in nothing that is a name
VAE = "Default (model)"
_NAME = re.compile(r"[\w][\w .+-]{0,99}")

# as A1111 shows them
_SAMPLERS: Mapping[SamplerName, str] = MappingProxyType(
    {
        "euler": "Euler",
        "euler_ancestral": "Euler a",
        "heun": "Heun",
        "dpmpp_2m": "DPM++ 2M",
        "dpmpp_2m_sde": "DPM++ 2M SDE",
        "dpmpp_3m_sde": "DPM++ 3M SDE",
        "dpmpp_sde": "DPM++ SDE",
        "lcm": "LCM",
        "tcd": "TCD",
        "uni_pc": "UniPC",
        "uni_pc_bh2": "UniPC BH2",
    }
)


@dataclass(frozen=True, slots=True)
class UsedModel:
    """name: of its file, without folder and suffix. sha256: of the file, in hex, where it is known."""

    name: str
    sha256: str | None = None

    @property
    def hash(self) -> str:
        return (self.sha256 or "")[:HASH]


@dataclass(frozen=True, slots=True)
class Making:
    """How one picture was made.

    size: (width, height) in pixels. positive, negative: the texts that it was drawn from. loras: all that it was drawn
    with, those too that its prompt names. version: of the service, where it is known. styles: whose texts are among its
    own, without the expansion's. expansion: what was added to the prompt. refiner: the file that the spec's means,
    where it has one.
    """

    spec: Spec
    size: tuple[int, int]
    seed: int
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    base: UsedModel
    loras: tuple[tuple[Lora, UsedModel], ...]
    version: str | None
    styles: tuple[str, ...] = ()
    expansion: str = ""
    refiner: UsedModel | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is embedded. software: who made the picture, with the version."""

    scheme: Scheme
    content: str
    software: str


def metadata(scheme: Scheme, making: Making) -> Metadata:
    """What a picture's file says; texts are cut until all of it has at most MAX_BYTES, in UTF-16 too."""
    most = MOST_CHARACTERS
    while len((content := _content(scheme, _cut(making, most))).encode("utf-16")) > MAX_BYTES:
        most //= 2
    return Metadata(scheme, content, _software(making))


def lora_name(source: str) -> str:
    """What a LoRA is called, by the end of its name or address: without folders, query and suffix.

    What a client has uploaded has an address that is known to him alone, so it has no name.
    """
    try:
        address = urlsplit(source)
    except ValueError:  # half an address
        return UNNAMED
    if address.scheme not in ("", "http", "https") or "/files/" in address.path:
        return UNNAMED
    end = PurePosixPath(unquote(address.path)).name.removesuffix(".safetensors")
    return end if _NAME.fullmatch(end) else UNNAMED


def _content(scheme: Scheme, making: Making) -> str:
    match scheme:
        case "fooocus":
            return json.dumps(_fooocus(making), sort_keys=True)
        case "a1111":
            return _a1111(making).encode("utf-8", "replace").decode("utf-8")  # halves of letters are none
        case _:
            assert_never(scheme)


def _fooocus(making: Making) -> dict[str, Any]:
    spec, guidance = making.spec, making.spec.guidance
    found: dict[str, Any] = {
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "prompt_expansion": making.expansion,
        "styles": str([*([EXPANSION] if spec.expand_prompt else []), *making.styles]),
        "steps": spec.steps,
        "resolution": str(making.size),
        "guidance_scale": guidance.scale,
        "sharpness": guidance.sharpness,
        "adm_guidance": _sizes(spec),
        "base_model": making.base.name,
        "refiner_model": making.refiner.name if making.refiner else "None",
        "refiner_switch": spec.refiner.switch if spec.refiner else 1.0,
        "sampler": spec.sampler,
        "scheduler": spec.schedule,
        "vae": VAE,
        "seed": str(making.seed),
        "loras": [[model.name, weight, model.hash] for model, weight in _loras(making)],
        "full_prompt": [*making.positive],
        "full_negative_prompt": [*making.negative],
        "metadata_scheme": "fooocus",
        "version": _software(making),
    }
    found |= {f"lora_combined_{at}": f"{model.name} : {weight}" for at, (model, weight) in enumerate(_loras(making), 1)}
    if mode := _performance(spec):
        found["performance"] = mode
    if making.base.hash:
        found["base_model_hash"] = making.base.hash
    if making.refiner and making.refiner.hash:
        found["refiner_model_hash"] = making.refiner.hash
    if method := _swap_method(spec):
        found["refiner_swap_method"] = method
    if guidance.mimicked not in (None, MIMICKED):
        found["adaptive_cfg"] = guidance.mimicked
    return found


def _a1111(making: Making) -> str:
    spec, (width, height), used = making.spec, making.size, _loras(making)
    labels: dict[str, Any] = {
        "Steps": spec.steps,
        "Sampler": _SAMPLERS[spec.sampler] + (" Karras" if spec.schedule == "karras" else ""),
        "Seed": making.seed,
        "Size": f"{width}x{height}",
        "CFG scale": spec.guidance.scale,
        "Sharpness": spec.guidance.sharpness,
        "ADM Guidance": _sizes(spec),
        "Model": making.base.name,
        "Model hash": making.base.hash,
        "Performance": _performance(spec),
        "Scheduler": spec.schedule,
        "VAE": VAE,
        "Raw prompt": spec.prompt,
        "Raw negative prompt": spec.negative_prompt,
        "Refiner": making.refiner and making.refiner.name,
        "Refiner hash": making.refiner and making.refiner.hash,
        "Refiner Swap Method": _swap_method(spec),
        "Lora hashes": ", ".join(f"{model.name}: {model.hash}" for model, _ in used if model.hash),
        "Lora weights": ", ".join(f"{model.name}: {weight}" for model, weight in used),
        "Version": _software(making),
    }
    last = ", ".join(f"{label}: {_quoted(value)}" for label, value in labels.items() if value not in (None, ""))
    return f"{_line(making.positive)}\nNegative prompt: {_line(making.negative)}\n{last}"


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\"\n]", text) or not text.isprintable() else text


def _line(texts: Iterable[str]) -> str:
    """In one line, so that no text stands where a label is read."""
    return "".join(each if each.isprintable() else " " for each in ", ".join(filter(None, texts)))


def _sizes(spec: Spec) -> str:
    sizes = spec.guidance.sizes
    return str((sizes.positive, sizes.negative, sizes.end))


def _swap_method(spec: Spec) -> str | None:
    """How the refiner takes over, where that is not the usual way."""
    return None if spec.refiner is None or spec.refiner.method == "joint" else spec.refiner.method


def _software(making: Making) -> str:
    return f"Fooocus Serve v{making.version}" if making.version else "Fooocus Serve"


def _performance(spec: Spec) -> PerformanceName | None:
    """The mode that has these steps, sampler, schedule and LoRA."""
    sources = [lora.source for lora in spec.loras if lora.performance]
    for name, mode in MODES.items():
        named = [mode.lora.source] if mode.lora else []
        how = (mode.sampler, mode.schedule, named)
        if spec.steps in (mode.steps, mode.enlarged_steps) and how == (spec.sampler, spec.schedule, sources):
            return name
    return None


def _loras(making: Making) -> list[tuple[UsedModel, float]]:
    """With their weights; a mode's own LoRA is told by the mode's name."""
    told = _performance(making.spec) is not None
    return [(model, lora.scale) for lora, model in making.loras if not (told and lora.performance)]


def _cut(making: Making, most: int) -> Making:
    def cut(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(text[:most] for text in texts)

    prompts = {"prompt": making.spec.prompt[:most], "negative_prompt": making.spec.negative_prompt[:most]}
    return replace(
        making,
        spec=making.spec.model_copy(update=prompts),
        positive=cut(making.positive),
        negative=cut(making.negative),
        expansion=making.expansion[:most],
    )

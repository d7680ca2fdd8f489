"""Which architecture a LoRA was made for, where the names and shapes of its tensors or its metadata tell it."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

SDXL = "SDXL"

_NAMES = (  # by names that no UNet of SDXL has; the first that fits is taken
    (
        re.compile(r"(^|[._])(temporal_transformer_blocks|motion_modules|time_stack)[._]"),
        "AnimateDiff or another video model",
    ),
    (re.compile(r"^lora_prior_unet_|(^|[._])kv_mapper([._]|$)"), "Stable Cascade"),
    (re.compile(r"(^|[._])joint_blocks[._]"), "Stable Diffusion 3"),
    (re.compile(r"(^|[._])single_(transformer_)?blocks[._]"), "Flux"),
    (re.compile(r"(^|[._])double_blocks[._]"), "Flux"),
    (re.compile(r"(^|[._])encoder_hid_proj[._]"), "Kolors of Kwai"),
    (re.compile(r"^(transformer\.|diffusion_model\.|lora_unet_)?blocks[._]\d+[._](self|cross)_attn[._]"), "Wan"),
    (re.compile(r"(^|[._])transformer_blocks[._]\d+[._](img|txt)_m(lp|od)[._]"), "Qwen-Image"),
    (re.compile(r"^transformer\.transformer_blocks[._]\d+[._]attn[._]"), "Stable Diffusion 3"),
    (re.compile(r"^(lora_)?transformer[._]"), "a diffusion transformer"),
    (re.compile(r"(^|[._])model[._]layers[._]\d+[._](self_attn|mlp)[._]"), "a language model"),
)
_TOLD = (  # by what trainers write of the model: `modelspec.architecture`, `ss_base_model_version`
    (re.compile(r"refiner", re.I), "the SDXL refiner"),
    (re.compile(r"stable-diffusion-xl|sdxl|^sd_xl", re.I), SDXL),
    (re.compile(r"kolors", re.I), "Kolors of Kwai"),
    (re.compile(r"flux", re.I), "Flux"),
    (re.compile(r"stable-diffusion-3|^sd3", re.I), "Stable Diffusion 3"),
    (re.compile(r"stable-diffusion-v2|^sd_v2|^sd2", re.I), "Stable Diffusion 2"),
    (re.compile(r"stable-diffusion-v1|^sd_v1|^sd1", re.I), "Stable Diffusion 1.5"),
    (re.compile(r"cascade", re.I), "Stable Cascade"),
)
_TELLING = ("modelspec.architecture", "ss_base_model_version", "base_model", "baseModel")
_CONTEXT = re.compile(
    r"attn2[._]to_[kv]\.(lora_down|lora_A(\.default)?|lora\.down|hada_w1_b|diff)(\.weight)?$"
    r"|attn2\.processor\.to_[kv]_lora\.down\.weight$"
)
_WIDTHS = MappingProxyType(
    {768: "Stable Diffusion 1.5", 1024: "Stable Diffusion 2", 1280: "the SDXL refiner", 2048: SDXL}
)
_SIZES = re.compile(
    r"(add_embedding[._]linear_1|label_emb[._]0[._]0)\.(lora_down|lora_A(\.default)?|lora\.down|diff)(\.weight)?$"
)
_SIZE_WIDTHS = MappingProxyType({2560: "the SDXL refiner", 2816: SDXL, 5632: "Kolors of Kwai"})


def made_for(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> str | None:
    """The architecture in words that follow `made for`; None where nothing tells it.

    shapes: of the file's tensors, by name. Names and shapes count before what the metadata says.
    """
    named = next((known for name in shapes for pattern, known in _NAMES if pattern.search(name)), None)
    if named is not None:
        return named
    by_sizes = _by_width(shapes, _SIZES, _SIZE_WIDTHS)
    by_context = _by_width(shapes, _CONTEXT, _WIDTHS)
    if by_sizes is not None or by_context is not None:
        return by_sizes if by_sizes not in (None, SDXL) else by_context or by_sizes
    return _told(metadata.get(key, "") for key in _TELLING)


def _by_width(shapes: Mapping[str, tuple[int, ...]], pattern: re.Pattern[str], widths: Mapping[int, str]) -> str | None:
    seen = {shape[1] for name, shape in shapes.items() if len(shape) > 1 and pattern.search(name)}
    return next((widths[width] for width in sorted(seen) if width in widths), None)


def _told(values: Iterable[str]) -> str | None:
    return next((known for value in values for pattern, known in _TOLD if pattern.search(value)), None)

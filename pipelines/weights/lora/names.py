"""How LoRA files name their tensors: the layer that each belongs to, and its role there (fooocus-facts 9.2)."""

import re
from typing import Literal

Component = Literal["unet", "text_encoder", "text_encoder_2"]
COMPONENTS: tuple[Component, ...] = ("unet", "text_encoder", "text_encoder_2")
Place = tuple[Component, str]  # a component and the name of a module or of a parameter in it

# kohya's prefixes, then those of diffusers, of ComfyUI and of peft; the first that fits is taken
_PREFIXES: tuple[tuple[str, Component], ...] = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("diffusion_model.", "unet"),
    ("base_model.model.", "unet"),
)
DOWN, UP, ALPHA = "down", "up", "alpha"
_ROLES = (
    (re.compile(r"\.lora_A(\.default)?\.weight$"), DOWN),
    (re.compile(r"\.lora_B(\.default)?\.weight$"), UP),
    (re.compile(r"\.(lora_|lora\.|lora_linear_layer\.)down\.weight$"), DOWN),
    (re.compile(r"\.(lora_|lora\.|lora_linear_layer\.)up\.weight$"), UP),
    (re.compile(r"\.alpha$"), ALPHA),
)
_PROCESSOR = re.compile(r"\.processor\.(to_\w+?)_lora\.(down|up)\.weight$")  # attention processors of older diffusers


def parse(name: str) -> tuple[Place, str] | None:
    found = next((known for known in _PREFIXES if name.startswith(known[0])), None)
    prefix, component = found or ("", "unet")  # what a UNet alone saves has no prefix
    rest = name.removeprefix(prefix)
    processor = _PROCESSOR.search(rest)
    if processor:
        module = f"{rest[: processor.start()]}.{processor[1]}"
        place = component, flat_name(component, module + ".0" if processor[1] == "to_out" else module)
        return place, processor[2]
    for pattern, role in _ROLES:
        match = pattern.search(rest)
        if match:
            return (component, flat_name(component, rest[: match.start()])), role
    return None


def flat_name(component: Component, module: str) -> str:
    # transformers 5 dropped the inner name of the plain text encoder; files have it
    name = module if component == "unet" else re.sub(r"^text_model[._]", "", module)
    return name.replace(".", "_")

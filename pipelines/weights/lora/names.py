"""How LoRA files name their tensors: the layer that each belongs to, and its role there (fooocus-facts 9.2)."""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from pipelines.errors import InputFault

Component = Literal["unet", "text_encoder", "text_encoder_2"]
COMPONENTS: tuple[Component, ...] = ("unet", "text_encoder", "text_encoder_2")
Place = tuple[Component, str]  # a component and the name of a module or of a parameter in it

# roles of more than one spelling; those of LoHa, LoKr, norms and whole changes are called as files call them
DOWN, MID, UP, UP_BIAS, ALPHA = "down", "mid", "up", "up_bias", "alpha"
OUTPUT_MAGNITUDE, MAGNITUDE = "lora_magnitude_vector", "dora_scale"  # of peft, and of kohya's trainers and LyCORIS

# kohya's prefixes, then those of diffusers, of ComfyUI and of peft; the first that fits is taken
_PREFIXES: tuple[tuple[str, Component], ...] = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoders.clip_l.transformer.", "text_encoder"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2"),
    ("diffusion_model.", "unet"),
    ("base_model.model.", "unet"),
)
_ROLES = (
    (re.compile(r"\.lora_A(\.default)?\.weight$"), DOWN),
    (re.compile(r"\.lora_B(\.default)?\.weight$"), UP),
    (re.compile(r"\.(lora_|lora\.|lora_linear_layer\.)down\.weight$"), DOWN),
    (re.compile(r"\.(lora_|lora\.|lora_linear_layer\.)up\.weight$"), UP),
    (re.compile(r"\.lora_mid\.weight$"), MID),
    (re.compile(r"\.(lora_B(\.default)?|lora_up)\.bias$"), UP_BIAS),
    (re.compile(r"\.alpha$"), ALPHA),
    (re.compile(r"\.lora_magnitude_vector(\.default)?(\.weight)?$"), OUTPUT_MAGNITUDE),
)
_OWN_ROLES = re.compile(r"\.(dora_scale|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)|diff(?:_b)?|[wb]_norm)$")
_PROCESSOR = re.compile(r"\.processor\.(to_\w+?)_lora\.(down|up)\.weight$")  # attention processors of older diffusers

BUNDLED = "bundle_emb."
_REFUSED = (  # what no formula here computes, by a tensor that it always has
    (re.compile(r"\.(a1|a2|b1|b2|bm)(\.weight)?$"), "a GLoRA"),
    (re.compile(r"\.(oft_blocks|oft_diag|oft_[rRs])(\.|$)"), "an OFT or a BOFT"),
    (re.compile(r"\.boft_\w+(\.|$)"), "a BOFT"),
    (re.compile(r"\.(ia3_l|on_input)(\.|$)"), "an (IA)3"),
    (re.compile(r"\.vera_lambda_\w+(\.|$)"), "a VeRA"),
    (re.compile(r"\.lora_E(\.|$)"), "an AdaLoRA"),
    (re.compile(r"\.lora_embedding_[AB](\.|$)"), "one of token embeddings"),
    (re.compile(r"\.(set_weight|reshape_weight)$"), "one that replaces or reshapes weights"),
    (re.compile(r"^lycoris_"), "named in LyCORIS' own way"),
    (re.compile(r"\.self_attn\.to_(q|k|v|out)_lora\.(down|up)\.weight$"), "named as text encoders were in early 2023"),
)


class Part(NamedTuple):
    """A tensor's place, the module of which is spelt with underscores, and what it is there."""

    place: Place
    role: str


def require_known_kind(names: Iterable[str]) -> None:
    """Raise InputFault `feature_not_supported`, with the kind, for files that are known and not read."""
    for name in names:
        kind = next((kind for pattern, kind in _REFUSED if pattern.search(name)), None)
        if kind is not None:
            msg = f"This LoRA is {kind}, which is not supported: it has {name[:200]}."
            raise InputFault("feature_not_supported", msg)


def bundled_part(name: str) -> tuple[str, str] | None:
    """The name of the embedding to which a tensor belongs, and what it is of it; None for others."""
    if not name.startswith(BUNDLED):
        return None
    embedding, _, part = name.removeprefix(BUNDLED).partition(".")
    return embedding, part


def bundled_name(embedding: str, part: str) -> str:
    """The other way."""
    return f"{BUNDLED}{embedding}.{part}" if part else BUNDLED + embedding


def parse(name: str) -> Part | None:
    """Where a tensor belongs; None for names of no known kind."""
    component, rest = _component(name)
    processor = _PROCESSOR.search(rest)
    if processor:
        module = f"{rest[: processor.start()]}.{processor[1]}"
        return Part(
            (component, flat_name(component, module + ".0" if processor[1] == "to_out" else module)), processor[2]
        )
    own = _OWN_ROLES.search(rest)
    if own:
        return Part((component, flat_name(component, rest[: own.start()])), own[1])
    for pattern, role in _ROLES:
        match = pattern.search(rest)
        if match:
            return Part((component, flat_name(component, rest[: match.start()])), role)
    return None


def layers_around(name: str) -> Iterable[Place]:
    """Of a name of no known kind the layers that it may belong to."""
    component, rest = _component(name)
    while "." in rest:
        rest = rest.rpartition(".")[0]
        yield component, flat_name(component, rest)


def flat_name(component: Component, module: str) -> str:
    """A module's name with underscores, as kohya spells it."""
    # transformers 5 dropped the inner name of the plain text encoder; files have it
    name = module if component == "unet" else re.sub(r"^text_model[._]", "", module)
    return name.replace(".", "_")


def _component(name: str) -> tuple[Component, str]:
    found = next((known for known in _PREFIXES if name.startswith(known[0])), None)
    prefix, component = found or ("", "unet")  # what a UNet alone saves has no prefix
    return component, name.removeprefix(prefix)

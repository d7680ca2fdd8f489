"""The names and shapes of the small published files beside a checkpoint, at SDXL's full shape.

As their own makers write them: the control-LoRAs by the original names of the layers they change, the inpaint patch
likewise, LoRAs by kohya's rule (a prefix, then the module's path with underscores) over diffusers' or original paths.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod

from tests.pipelines.weights.key_lists import SDXL_BASE, Keys, Shape, unet

HINTS = (3, 16, 16, 32, 32, 96, 96, 256, 320)  # channels of the hint encoder of ControlNet, from its picture on
SKIPS = (320, 320, 320, 320, 640, 640, 640, 1280, 1280)  # of SDXL's input blocks


def control_lora(rank: int = 128) -> Keys:
    """Matrices and convolutions as `up` and `down`; biases, norms and what the UNet lacks in full."""
    keys: Keys = {"lora_controlnet": (0,)}
    for name, shape in unet(SDXL_BASE, "").items():
        layer, _, kind = name.rpartition(".")
        if not name.startswith(("time_embed.", "label_emb.", "input_blocks.", "middle_block.")):
            continue
        if kind == "weight" and len(shape) > 1:
            keys |= {f"{layer}.{side}": each for side, each in _sides(shape, rank, len(shape) - 2)}
        else:
            keys[name] = shape
    for at, (before, after) in enumerate(pairwise(HINTS)):
        keys |= {
            f"input_hint_block.{2 * at}.weight": (after, before, 3, 3),
            f"input_hint_block.{2 * at}.bias": (after,),
        }
    for at, width in enumerate(SKIPS):
        keys |= {f"zero_convs.{at}.0.weight": (width, width, 1, 1), f"zero_convs.{at}.0.bias": (width,)}
    return keys | {"middle_block_out.0.weight": (1280, 1280, 1, 1), "middle_block_out.0.bias": (1280,)}


def _sides(shape: Shape, rank: int, ones: int) -> Iterator[tuple[str, Shape]]:
    kept = min(rank, shape[0], prod(shape[1:]))  # no matrix has a higher rank
    yield "up", (shape[0], kept, *(1,) * ones)
    yield "down", (kept, *shape[1:])


def inpaint_patch() -> tuple[Keys, Keys]:
    """Levels and ranges of every parameter of the UNet, as a pull writes them of the published pickle."""
    whole = unet(SDXL_BASE, "diffusion_model.")
    return {f"{name}.levels": shape for name, shape in whole.items()}, {f"{name}.range": (2,) for name in whole}


def kohya(layers: Mapping[str, Shape], rank: int, prefix: str = "lora_unet_") -> Keys:
    """What kohya's networks call the LoRA of these layers of a UNet: each its two sides and an alpha.

    prefix: `lora_te1_` and `lora_te2_` for the two text encoders.
    """
    keys: Keys = {}
    for name, shape in layers.items():
        known = prefix + name.replace(".", "_")
        keys[f"{known}.alpha"] = ()
        keys[f"{known}.lora_up.weight"] = (shape[0], rank, *(1,) * (len(shape) - 2))
        keys[f"{known}.lora_down.weight"] = (rank, *shape[1:])
    return keys


def peft(layers: Mapping[str, Shape], rank: int) -> Keys:
    """What diffusers saves of an adapter."""
    keys: Keys = {}
    for name, shape in layers.items():
        keys[f"unet.{name}.lora_B.weight"] = (shape[0], rank, *(1,) * (len(shape) - 2))
        keys[f"unet.{name}.lora_A.weight"] = (rank, *shape[1:])
    return keys


def distilled() -> dict[str, Shape]:
    """The layers that LCM's published trainer names, which Lightning and Hyper-SD change as well: all matrices and
    convolutions of the blocks, by diffusers' paths."""
    return {name: shape for name, shape in diffusers_layers() if "_blocks." in name or name.startswith("mid_block.")}


def original_attentions() -> dict[str, Shape]:
    """The layers that kohya's trainer changes where nothing else is said, by the original paths."""
    return {
        name.removesuffix(".weight"): shape
        for name, shape in unet(SDXL_BASE, "").items()
        if ".1." in name and name.endswith(".weight") and len(shape) > 1 and ("attn" in name or "ff" in name)
    }


def text_layers(width: int, inner: int, layers: int) -> dict[str, Shape]:
    """The matrices of a CLIP text model, by transformers' paths, as kohya's trainer changes them of both encoders."""
    found: dict[str, Shape] = {}
    for layer in (f"text_model.encoder.layers.{at}" for at in range(layers)):
        found |= {f"{layer}.self_attn.{part}": (width, width) for part in ("q_proj", "k_proj", "v_proj", "out_proj")}
        found |= {f"{layer}.mlp.fc1": (inner, width), f"{layer}.mlp.fc2": (width, inner)}
    return found


def upscaler(width: int = 64, growth: int = 32, blocks: int = 23) -> Keys:
    """ESRGAN's RRDBNet with its published sizes, in the layout of its first release."""
    shapes = {"model.0": (3, width), f"model.1.sub.{blocks}": (width, width), "model.10": (width, 3)}
    shapes |= dict.fromkeys(("model.3", "model.6", "model.8"), (width, width))
    for block in range(blocks):
        for dense in (1, 2, 3):
            for at in range(5):
                after = growth if at < 4 else width
                shapes[f"model.1.sub.{block}.RDB{dense}.conv{at + 1}.0"] = (width + at * growth, after)
    keys: Keys = {}
    for name, (before, after) in shapes.items():
        keys |= {f"{name}.weight": (after, before, 3, 3), f"{name}.bias": (after,)}
    return keys


def diffusers_layers() -> Iterator[tuple[str, Shape]]:
    """Path and weight's shape of every matrix and convolution of SDXL's UNet as diffusers builds it."""
    widths, depths, time, context = (320, 640, 1280), (0, 2, 10), 1280, 2048
    yield from (("time_embedding.linear_1", (time, 320)), ("time_embedding.linear_2", (time, time)))
    yield from (("add_embedding.linear_1", (time, 2816)), ("add_embedding.linear_2", (time, time)))
    yield "conv_in", (320, 4, 3, 3)
    skips, width = [320], 320
    for level, after in enumerate(widths):
        block = f"down_blocks.{level}"
        for at in range(2):
            yield from _resnet(f"{block}.resnets.{at}", width, after, time)
            yield from _attention(f"{block}.attentions.{at}", after, depths[level], context)
            width = after
            skips.append(width)
        if level < 2:
            yield f"{block}.downsamplers.0.conv", (width, width, 3, 3)
            skips.append(width)
    yield from _resnet("mid_block.resnets.0", width, width, time)
    yield from _attention("mid_block.attentions.0", width, depths[-1], context)
    yield from _resnet("mid_block.resnets.1", width, width, time)
    for level, after in enumerate(reversed(widths)):
        block = f"up_blocks.{level}"
        for at in range(3):
            yield from _resnet(f"{block}.resnets.{at}", width + skips.pop(), after, time)
            yield from _attention(f"{block}.attentions.{at}", after, depths[2 - level], context)
            width = after
        if level < 2:
            yield f"{block}.upsamplers.0.conv", (width, width, 3, 3)
    yield "conv_out", (4, 320, 3, 3)


def _resnet(name: str, before: int, after: int, time: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.conv1", (after, before, 3, 3)
    yield f"{name}.time_emb_proj", (after, time)
    yield f"{name}.conv2", (after, after, 3, 3)
    if before != after:
        yield f"{name}.conv_shortcut", (after, before, 1, 1)


def _attention(name: str, width: int, depth: int, context: int) -> Iterator[tuple[str, Shape]]:
    if not depth:
        return
    yield f"{name}.proj_in", (width, width)
    yield f"{name}.proj_out", (width, width)
    for block in (f"{name}.transformer_blocks.{at}" for at in range(depth)):
        for attention, seen in (("attn1", width), ("attn2", context)):
            yield f"{block}.{attention}.to_q", (width, width)
            yield f"{block}.{attention}.to_k", (width, seen)
            yield f"{block}.{attention}.to_v", (width, seen)
            yield f"{block}.{attention}.to_out.0", (width, width)
        yield f"{block}.ff.net.0.proj", (8 * width, width)
        yield f"{block}.ff.net.2", (width, 4 * width)

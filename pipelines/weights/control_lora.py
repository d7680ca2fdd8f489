"""Control-LoRAs: a control network made of a UNet's weights and a small file, and how it is run (fooocus-facts 5.6)."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipelines.errors import WeightsFault
from pipelines.memory.residency import RESIDENT
from pipelines.unet.layers import share_branches
from pipelines.weights.keys import original_name
from pipelines.weights.lora.changes import LowRank, merged

MARKER = "lora_controlnet"
SOFTNESS = 0.25
HIDDEN = -10000.0  # added to the attention scores of padding, as diffusers does


@torch.no_grad()
def build_control(
    unet: UNet2DConditionModel, path: Path, home: Callable[[Tensor], Tensor] = RESIDENT.home
) -> ControlNetModel:
    """The control network that the control-LoRA at `path` makes of a UNet as it is now, LoRAs included.

    A layer with `up` and `down` is the UNet's plus their product; what is stored in full is taken as it is; what is
    not stored is shared with the UNet, so never change the network's parameters in place. Low-rank changes that rows
    carry act on what is made of the UNet's layers, as merged ones would. home: where a parameter of
    the UNet is read, whatever runs meanwhile; the network's own are made there, in the UNet's dtype.
    Raises WeightsFault unless every tensor of the file finds a place, and every parameter a source.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise WeightsFault(f"The control-LoRA {path} cannot be read: {fault}") from fault
    if tensors.pop(MARKER, None) is None:
        raise WeightsFault(f"{path} is no control-LoRA: it lacks the tensor {MARKER}.")
    network, known = _empty(unet, tensors, path), frozenset(tensors)
    ours = unet.state_dict(keep_vars=True)
    state: dict[str, Tensor] = {}
    of_unet: list[str] = []
    device, dtype = home(unet.conv_in.weight).device, unet.dtype  # which is a walk through all modules
    for name, parameter in network.named_parameters():
        stored = stored_name(name, network, unet)
        layer = stored.removesuffix(".weight")
        if stored in tensors:
            value = tensors.pop(stored).to(device, dtype)
        elif name not in ours:
            raise WeightsFault(f"The control-LoRA {path} lacks {stored}.")
        elif f"{layer}.up" in tensors and f"{layer}.down" in tensors:
            change = LowRank(down=tensors.pop(f"{layer}.down"), up=tensors.pop(f"{layer}.up"))
            if not change.fits(ours[name]):
                raise WeightsFault(f"The control-LoRA {path} does not fit the UNet: {layer} has another shape.")
            value = merged(home(ours[name]), [(change, 1.0)])
        else:
            value = ours[name]
        if stored not in known and name.endswith(".weight"):
            of_unet.append(name.removesuffix(".weight"))
        if value.shape != parameter.shape:
            raise WeightsFault(f"The control-LoRA {path} does not fit the UNet: {stored} has another shape.")
        state[name] = value
    if tensors:
        raise WeightsFault(
            f"The control-LoRA {path} has {len(tensors)} tensors without a place: {sorted(tensors)[:3]}."
        )
    network.load_state_dict(state, assign=True)
    share_branches(network, unet, of_unet)
    return network


def control_residuals(
    network: ControlNetModel,
    sample: Tensor,
    timestep: Tensor,
    encoder_hidden_states: Tensor,
    added_cond: Mapping[str, Tensor],
    hint_embedding: Tensor,
    encoder_attention_mask: Tensor | None = None,
) -> tuple[list[Tensor], Tensor]:
    """What the network adds to the UNet's skip connections and to its middle: (down residuals, middle residual).

    The same numbers as the network's own forward, whose work on the hint picture is done once for all steps.
    sample: (n, 4, h, w). timestep: (n,). encoder_hidden_states: (n, tokens, width). added_cond: `text_embeds`
    (n, width) and `time_ids` (n, 6). hint_embedding: (n, channels, h, w), from `network.controlnet_cond_embedding` on
    pictures of 0..1. encoder_attention_mask: (n, tokens), 1 for tokens and 0 for padding.
    """
    emb = network.time_embedding(network.time_proj(timestep).to(sample.dtype))
    sizes = network.add_time_proj(added_cond["time_ids"].flatten()).reshape(len(sample), -1)
    emb = emb + network.add_embedding(torch.cat([added_cond["text_embeds"], sizes], dim=-1).to(emb.dtype))
    attended = {"encoder_hidden_states": encoder_hidden_states}
    if encoder_attention_mask is not None:
        attended["encoder_attention_mask"] = ((1 - encoder_attention_mask.to(sample.dtype)) * HIDDEN).unsqueeze(1)
    hidden = network.conv_in(sample) + hint_embedding
    skips = [hidden]
    for block in network.down_blocks:
        more = attended if getattr(block, "has_cross_attention", False) else {}
        hidden, outputs = block(hidden, emb, **more)
        skips += outputs
    more = attended if getattr(network.mid_block, "has_cross_attention", False) else {}
    hidden = network.mid_block(hidden, emb, **more)
    down = [convolution(skip) for convolution, skip in zip(network.controlnet_down_blocks, skips, strict=True)]
    return down, network.controlnet_mid_block(hidden)


def softness_ramp(count: int, softness: float = SOFTNESS) -> list[float]:
    """The factor of each of `count` residuals, the middle one last: from 1 - softness to 1 in equal steps."""
    if count < 2:
        return [1.0] * count
    return [1 - softness * (1 - at / (count - 1)) for at in range(count)]


def _empty(unet: UNet2DConditionModel, tensors: Mapping[str, Tensor], path: Path) -> ControlNetModel:
    """A network of the UNet's depth and the file's hint encoder, without memory for its parameters."""
    if unet.config["addition_embed_type"] != "text_time":
        raise WeightsFault("Control-LoRAs are run on UNets of the SDXL architecture only.")
    places = sorted(
        int(name.split(".")[1]) for name in tensors if name.startswith("input_hint_block.") and ".weight" in name
    )
    if len(places) < 2 or places != list(range(0, 2 * len(places), 2)):
        raise WeightsFault(f"The control-LoRA {path} has no complete hint encoder (input_hint_block).")
    widths = [tensors[f"input_hint_block.{place}.weight"].shape for place in places]
    with torch.device("meta"):
        network: ControlNetModel = ControlNetModel.from_unet(
            unet,
            # the first convolution and then every second one, which halves the picture, widens
            conditioning_embedding_out_channels=tuple(shape[0] for shape in widths[:-1:2]),
            conditioning_channels=widths[0][1],
            load_weights_from_unet=False,
        )
    return network.eval().requires_grad_(False)


def stored_name(name: str, network: ControlNetModel, unet: UNet2DConditionModel) -> str:
    """What a control-LoRA's file calls the parameter `name` of a control network made from `unet`."""
    part, _, rest = name.partition(".")
    match part:
        case "controlnet_cond_embedding":
            blocks = len(network.controlnet_cond_embedding.blocks)
            if rest.startswith("blocks."):
                _, at, kind = rest.split(".")
                return f"input_hint_block.{2 * (int(at) + 1)}.{kind}"
            place = {"conv_in": 0, "conv_out": 2 * (blocks + 1)}[rest.split(".")[0]]
            return f"input_hint_block.{place}.{rest.split('.')[1]}"
        case "controlnet_down_blocks":
            at, _, kind = rest.partition(".")
            return f"zero_convs.{at}.0.{kind}"
        case "controlnet_mid_block":
            return f"middle_block_out.0.{rest}"
    return original_name(name, unet.config)

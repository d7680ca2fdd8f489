"""The names and shapes of the published checkpoints, from their own code's naming rules and configurations.

Nothing here is taken from what reads them: the UNets are spelled as sgm and ldm build them, the VAE as ldm does, the
text encoders as transformers (CLIP ViT-L) and OpenCLIP (ViT-bigG) do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
Keys = dict[str, Shape]

VOCABULARY, ROW = 49408, 77


@dataclass(frozen=True)
class UNetParams:
    """`params` of sgm's UNetModel. depths: of the transformers of each level; 0 where its resolution has none.

    middle: likewise of the middle block. linear: `use_linear_in_transformer`. sizes: `adm_in_channels`.
    """

    channels: int
    mult: Sequence[int]
    depths: Sequence[int]
    middle: int
    context: int
    linear: bool = True
    sizes: int | None = None
    res_blocks: int = 2


SDXL_BASE = UNetParams(320, (1, 2, 4), (0, 2, 10), 10, context=2048, sizes=2816)
SDXL_REFINER = UNetParams(384, (1, 2, 4, 4), (0, 4, 4, 0), 4, context=1280, sizes=2560)
SD15 = UNetParams(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, context=768, linear=False)


def unet(params: UNetParams, prefix: str = "model.diffusion_model.") -> Keys:
    return {prefix + name: shape for name, shape in _unet(params)}


def _unet(params: UNetParams) -> Iterator[tuple[str, Shape]]:
    width, time = params.channels, params.channels * 4
    yield from _linear("time_embed.0", width, time)
    yield from _linear("time_embed.2", time, time)
    if params.sizes is not None:
        yield from _linear("label_emb.0.0", params.sizes, time)
        yield from _linear("label_emb.0.2", time, time)
    yield from _conv("input_blocks.0.0", 4, width)
    skipped, at = [width], 1
    for level, mult in enumerate(params.mult):
        for _ in range(params.res_blocks):
            yield from _res_block(f"input_blocks.{at}.0", width, mult * params.channels, time)
            width = mult * params.channels
            if params.depths[level]:
                yield from _transformer(f"input_blocks.{at}.1", width, params.depths[level], params)
            skipped.append(width)
            at += 1
        if level < len(params.mult) - 1:
            yield from _conv(f"input_blocks.{at}.0.op", width, width)
            skipped.append(width)
            at += 1
    yield from _res_block("middle_block.0", width, width, time)
    yield from _transformer("middle_block.1", width, params.middle, params)
    yield from _res_block("middle_block.2", width, width, time)
    at = 0
    for level, mult in reversed(list(enumerate(params.mult))):
        for block in range(params.res_blocks + 1):
            yield from _res_block(f"output_blocks.{at}.0", width + skipped.pop(), mult * params.channels, time)
            width, place = mult * params.channels, 1
            if params.depths[level]:
                yield from _transformer(f"output_blocks.{at}.1", width, params.depths[level], params)
                place = 2
            if level and block == params.res_blocks:
                yield from _conv(f"output_blocks.{at}.{place}.conv", width, width)
            at += 1
    yield from _norm("out.0", width)
    yield from _conv("out.2", width, 4)


def _res_block(name: str, before: int, after: int, time: int) -> Iterator[tuple[str, Shape]]:
    yield from _norm(f"{name}.in_layers.0", before)
    yield from _conv(f"{name}.in_layers.2", before, after)
    yield from _linear(f"{name}.emb_layers.1", time, after)
    yield from _norm(f"{name}.out_layers.0", after)
    yield from _conv(f"{name}.out_layers.3", after, after)
    if before != after:
        yield from _conv(f"{name}.skip_connection", before, after, 1)


def _transformer(name: str, width: int, depth: int, params: UNetParams) -> Iterator[tuple[str, Shape]]:
    yield from _norm(f"{name}.norm", width)
    for projection in ("proj_in", "proj_out"):
        made = _linear if params.linear else _pixelwise
        yield from made(f"{name}.{projection}", width, width)
    for block in (f"{name}.transformer_blocks.{at}" for at in range(depth)):
        for attention, context in (("attn1", width), ("attn2", params.context)):
            yield f"{block}.{attention}.to_q.weight", (width, width)
            yield f"{block}.{attention}.to_k.weight", (width, context)
            yield f"{block}.{attention}.to_v.weight", (width, context)
            yield from _linear(f"{block}.{attention}.to_out.0", width, width)
        yield from _linear(f"{block}.ff.net.0.proj", width, 8 * width)
        yield from _linear(f"{block}.ff.net.2", 4 * width, width)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _norm(f"{block}.{norm}", width)


def vae(prefix: str = "first_stage_model.") -> Keys:
    """ch 128, ch_mult 1 2 4 4, num_res_blocks 2, z_channels 4, double_z."""
    return {prefix + name: shape for name, shape in _vae()}


def _vae() -> Iterator[tuple[str, Shape]]:
    widths = (128, 256, 512, 512)
    yield from _conv("encoder.conv_in", 3, 128)
    width = 128
    for level, after in enumerate(widths):
        for block in range(2):
            yield from _vae_block(f"encoder.down.{level}.block.{block}", width, after)
            width = after
        if level < len(widths) - 1:
            yield from _conv(f"encoder.down.{level}.downsample.conv", width, width)
    yield from _vae_middle("encoder", width, 8)
    yield from _conv("decoder.conv_in", 4, width)
    for level, after in reversed(list(enumerate(widths))):
        for block in range(3):
            yield from _vae_block(f"decoder.up.{level}.block.{block}", width, after)
            width = after
        if level:
            yield from _conv(f"decoder.up.{level}.upsample.conv", width, width)
    yield from _vae_middle("decoder", 512, 3, last=128)
    yield from _pixelwise("quant_conv", 8, 8)
    yield from _pixelwise("post_quant_conv", 4, 4)


def _vae_middle(side: str, width: int, out: int, last: int | None = None) -> Iterator[tuple[str, Shape]]:
    yield from _vae_block(f"{side}.mid.block_1", width, width)
    yield from _norm(f"{side}.mid.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from _pixelwise(f"{side}.mid.attn_1.{part}", width, width)
    yield from _vae_block(f"{side}.mid.block_2", width, width)
    yield from _norm(f"{side}.norm_out", last or width)
    yield from _conv(f"{side}.conv_out", last or width, out)


def _vae_block(name: str, before: int, after: int) -> Iterator[tuple[str, Shape]]:
    yield from _norm(f"{name}.norm1", before)
    yield from _conv(f"{name}.conv1", before, after)
    yield from _norm(f"{name}.norm2", after)
    yield from _conv(f"{name}.conv2", after, after)
    if before != after:
        yield from _pixelwise(f"{name}.nin_shortcut", before, after)


def clip_l(prefix: str = "conditioner.embedders.0.transformer.") -> Keys:
    """transformers' CLIPTextModel of ViT-L/14, as its fourth version writes it."""
    return {f"{prefix}text_model.{name}": shape for name, shape in _clip_l(768, 3072, 12)}


def _clip_l(width: int, inner: int, layers: int) -> Iterator[tuple[str, Shape]]:
    yield "embeddings.position_ids", (1, ROW)
    yield "embeddings.token_embedding.weight", (VOCABULARY, width)
    yield "embeddings.position_embedding.weight", (ROW, width)
    yield from _clip_layers(width, inner, layers)
    yield from _norm("final_layer_norm", width)


def _clip_layers(width: int, inner: int, layers: int) -> Iterator[tuple[str, Shape]]:
    for layer in (f"encoder.layers.{at}" for at in range(layers)):
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{part}", width, width)
        yield from _norm(f"{layer}.layer_norm1", width)
        yield from _linear(f"{layer}.mlp.fc1", width, inner)
        yield from _linear(f"{layer}.mlp.fc2", inner, width)
        yield from _norm(f"{layer}.layer_norm2", width)


def open_clip_g(prefix: str = "conditioner.embedders.1.model.") -> Keys:
    """OpenCLIP's text tower of ViT-bigG-14."""
    return {prefix + name: shape for name, shape in _open_clip(1280, 5120, 32)}


def _open_clip(width: int, inner: int, layers: int) -> Iterator[tuple[str, Shape]]:
    yield "positional_embedding", (ROW, width)
    yield "text_projection", (width, width)
    yield "logit_scale", ()
    yield "token_embedding.weight", (VOCABULARY, width)
    yield from _open_clip_blocks(width, inner, layers)
    yield from _norm("ln_final", width)


def _open_clip_blocks(width: int, inner: int, layers: int) -> Iterator[tuple[str, Shape]]:
    for block in (f"transformer.resblocks.{at}" for at in range(layers)):
        yield from _norm(f"{block}.ln_1", width)
        yield f"{block}.attn.in_proj_weight", (3 * width, width)
        yield f"{block}.attn.in_proj_bias", (3 * width,)
        yield from _linear(f"{block}.attn.out_proj", width, width)
        yield from _norm(f"{block}.ln_2", width)
        yield from _linear(f"{block}.mlp.c_fc", width, inner)
        yield from _linear(f"{block}.mlp.c_proj", inner, width)


def clip_h() -> Keys:
    """OpenCLIP's ViT-H-14, whole: the file that is published as `clip_vision_vit_h.safetensors` has both towers."""
    texts = dict(_open_clip(1024, 4096, 24))
    return {**texts, **{f"visual.{name}": shape for name, shape in _open_vision(1280, 5120, 32, 14, 1024)}}


def _open_vision(width: int, inner: int, layers: int, patch: int, projected: int) -> Iterator[tuple[str, Shape]]:
    yield "class_embedding", (width,)
    yield "positional_embedding", ((224 // patch) ** 2 + 1, width)
    yield "proj", (width, projected)
    yield "conv1.weight", (width, 3, patch, patch)
    yield from _norm("ln_pre", width)
    yield from _open_clip_blocks(width, inner, layers)
    yield from _norm("ln_post", width)


def clip_h_of_transformers() -> Keys:
    """The same vision tower as transformers' CLIPVisionModelWithProjection, and beside it the text tower."""
    texts = {f"text_model.{name}": shape for name, shape in _clip_l(1024, 4096, 24)}
    seen = dict(_vision_of_transformers(1280, 5120, 32, 14))
    ends = {"logit_scale": (), "text_projection.weight": (1024, 1024), "visual_projection.weight": (1024, 1280)}
    return {**texts, **{f"vision_model.{name}": shape for name, shape in seen.items()}, **ends}


def _vision_of_transformers(width: int, inner: int, layers: int, patch: int) -> Iterator[tuple[str, Shape]]:
    places = (224 // patch) ** 2 + 1
    yield "embeddings.position_ids", (1, places)
    yield "embeddings.class_embedding", (width,)
    yield "embeddings.patch_embedding.weight", (width, 3, patch, patch)
    yield "embeddings.position_embedding.weight", (places, width)
    yield from _norm("pre_layrnorm", width)
    yield from _clip_layers(width, inner, layers)
    yield from _norm("post_layernorm", width)


def ip_adapter_plus() -> Keys:
    """IP-Adapter plus and plus-face for SDXL with ViT-H: a resampler of depth 4 with 20 heads of 64 and 16 queries, and
    70 pairs of projections, counted as the attention processors of diffusers are, the cross-attentions alone."""
    inner, width = 1280, 2048
    found: Keys = {"image_proj.latents": (1, 16, inner)}
    found |= _linear("image_proj.proj_in", 1280, inner)
    found |= _linear("image_proj.proj_out", inner, width)
    found |= _norm("image_proj.norm_out", width)
    for layer in (f"image_proj.layers.{at}" for at in range(4)):
        found |= {**dict(_norm(f"{layer}.0.norm1", inner)), **dict(_norm(f"{layer}.0.norm2", inner))}
        found |= {
            f"{layer}.0.to_q.weight": (20 * 64, inner),
            f"{layer}.0.to_kv.weight": (2 * 20 * 64, inner),
            f"{layer}.0.to_out.weight": (inner, 20 * 64),
        }
        found |= _norm(f"{layer}.1.0", inner)
        found |= {f"{layer}.1.1.weight": (4 * inner, inner), f"{layer}.1.3.weight": (inner, 4 * inner)}
    widths = [640] * 4 + [1280] * 20 + [1280] * 30 + [640] * 6 + [1280] * 10  # down 1 and 2, up 0 and 1, middle
    for at, each in enumerate(widths):
        found |= {f"ip_adapter.{2 * at + 1}.to_{role}_ip.weight": (each, width) for role in "kv"}
    return found


def sdxl_base() -> Keys:
    return {**unet(SDXL_BASE), **vae(), **clip_l(), **open_clip_g(), "denoiser.sigmas": (1000,)}


def sdxl_refiner() -> Keys:
    """Its one text encoder is the base's second."""
    return {**unet(SDXL_REFINER), **vae(), **open_clip_g("conditioner.embedders.0.model."), "denoiser.sigmas": (1000,)}


def sd15() -> Keys:
    tables = ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "posterior_variance")
    return {
        **unet(SD15),
        **vae(),
        **clip_l("cond_stage_model.transformer."),
        **dict.fromkeys(tables, (1000,)),
    }


def parameters(keys: Mapping[str, Shape]) -> Keys:
    """Without what is no parameter of a model."""
    return {name: shape for name, shape in keys.items() if not name.endswith(("position_ids", "logit_scale"))}


def _linear(name: str, before: int, after: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (after, before)
    yield f"{name}.bias", (after,)


def _conv(name: str, before: int, after: int, size: int = 3) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (after, before, size, size)
    yield f"{name}.bias", (after,)


def _pixelwise(name: str, before: int, after: int) -> Iterator[tuple[str, Shape]]:
    return _conv(name, before, after, 1)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)

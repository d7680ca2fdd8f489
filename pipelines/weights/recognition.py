"""What a file of weights is, by the header of its safetensors file alone: no tensor is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipelines.errors import WeightsFault
from pipelines.parts import Prediction
from pipelines.weights.header import Header

Kind = Literal[
    "SDXL base",
    "SDXL refiner",
    "Stable Diffusion 1.5",
    "Stable Diffusion 2",
    "Stable Diffusion 3",
    "Stable Video Diffusion",
    "Flux",
    "LoRA",
    "control-LoRA",
    "ControlNet",
    "VAE",
    "text encoder",
    "embedding",
    "image-prompt adapter",
    "vision tower",
    "inpaint patch",
    "upscaler",
    "unknown weights",
]
Layout = Literal["original", "diffusers"]
Fp8 = Literal["none", "plain", "scaled"]

SDXL_TEXT_ENCODERS = 2

_LORA = re.compile(
    r"^lora_(?!controlnet$)|\.lora_(up|down|mid|A|B)\.|\.lora\.(up|down)\.|_lora\.(up|down)\.|\.hada_w\d|\.lokr_w\d"
    r"|\.(diff|diff_b|w_norm|b_norm|dora_scale)$|^lycoris_"
)
_ORIGINAL_UNET = re.compile(r"^(model\.diffusion_model\.)?(input_blocks|middle_block|output_blocks)\.")
_DIFFUSERS_UNET = re.compile(r"^(unet\.)?(down_blocks|mid_block|up_blocks)\.")
_WHOLE_UNET = re.compile(r"^(model\.diffusion_model\.input_blocks|unet\.down_blocks)\.")
_SIZES = re.compile(r"(^|\.)(label_emb\.0\.0|add_embedding\.linear_1)\.weight$")  # SDXL alone is told of sizes
_VIDEO = re.compile(r"\.(time_stack|temporal_transformer_blocks)\.")
_CONTEXT = re.compile(r"^(?!model_ema\.).*attn2\.to_k\.weight$")
_VAE = re.compile(
    r"^(first_stage_model\.|vae\.)?(post_)?(quant_conv|(encoder|decoder)\.(conv_in|conv_out|down|up|mid)(_block)?s?)\."
)
_DIFFUSERS_VAE = re.compile(r"^(vae\.)?(encoder\.down_blocks|decoder\.up_blocks)\.")
_OTHERS: tuple[tuple[re.Pattern[str], Kind], ...] = (  # by names of what has no whole UNet; the first that fits
    (re.compile(r"^lora_controlnet$"), "control-LoRA"),
    (re.compile(r"^(control_model\.|input_hint_block\.|controlnet_)"), "ControlNet"),
    (re.compile(r"^(image_proj|ip_adapter)\."), "image-prompt adapter"),
    (re.compile(r"^(vision_model|visual)\."), "vision tower"),
    (re.compile(r"\.joint_blocks\."), "Stable Diffusion 3"),
    (re.compile(r"(^|\.)(double_blocks|single_transformer_blocks)\."), "Flux"),
    (re.compile(r"^diffusion_model\..*\.levels$"), "inpaint patch"),
    (re.compile(r"^(clip_[lg]|emb_params|string_to_param\..*)$"), "embedding"),
    (re.compile(r"^(model\.1\.sub\.|conv_first\.|body\.0\.rdb1\.)"), "upscaler"),
)
_TEXT_ALONE = re.compile(r"^(text_model\.|encoder\.layers\.|transformer\.resblocks\.)")
_TEXTS = ("conditioner.embedders.", "cond_stage_model.", "text_encoder.", "text_encoder_2.")
_REFINER_TEXT, _SECOND_TEXT = "conditioner.embedders.0.model.", "conditioner.embedders.1.model."
_SD2_TEXT, _SD1_TEXT = "cond_stage_model.model.", "cond_stage_model.transformer."
_SD1_WIDTH, _SD2_WIDTH, _REFINER_WIDTH = 768, 1024, 1280  # of the text that a published UNet attends to
_TOLD_V = ("v", "v_pred", "v_prediction", "v-prediction")  # `modelspec.prediction_type`, or ComfyUI's `predict_key`


_ARTICLES: Mapping[Kind, str] = {
    "SDXL base": "an SDXL base checkpoint",
    "SDXL refiner": "an SDXL refiner checkpoint",
    "Stable Diffusion 1.5": "a Stable Diffusion 1.5 checkpoint",
    "Stable Diffusion 2": "a Stable Diffusion 2 checkpoint",
    "LoRA": "a LoRA",
    "control-LoRA": "a control-LoRA",
    "ControlNet": "a ControlNet",
    "VAE": "a VAE alone",
    "text encoder": "a text encoder alone",
    "embedding": "an embedding (textual inversion)",
    "image-prompt adapter": "an image-prompt adapter",
    "vision tower": "a vision tower",
    "inpaint patch": "an inpaint patch",
    "upscaler": "an upscaler",
}
_WITHOUT_UNET = frozenset({kind for _, kind in _OTHERS} | {"LoRA", "VAE", "text encoder"})
_WORDS: Mapping[Prediction, str] = {"epsilon": "epsilon", "v_prediction": "v (v-prediction)"}
_PREDICTIONS: Mapping[Prediction | None, str] = {
    "epsilon": "epsilon",
    "v_prediction": "v-prediction",
    None: "no word of what it predicts",
}
_QUANTISED = (  # how a weight in fewer bits is told, but for ComfyUI's scaled fp8, which is read
    (re.compile(r"\.quant_state\.bitsandbytes__nf4$"), "to nf4 by bitsandbytes"),
    (re.compile(r"\.quant_state\.bitsandbytes__fp4$"), "to fp4 by bitsandbytes"),
    (re.compile(r"\.(SCB|weight_format)$"), "to int8 by bitsandbytes"),
    (re.compile(r"\.(absmax|quant_map|quant_state)(\.|$)"), "by bitsandbytes"),
    (re.compile(r"\.(qweight|qzeros|g_idx)$"), "by GPTQ or AWQ"),
    (re.compile(r"\.weight_scale_2$"), "to nvfp4"),
    (re.compile(r"\.pre_quant_scale$"), "with scales of what its layers read"),
)
_WHOLE_SCALES = ("F32", "F16", "BF16")  # dtypes of scaled fp8's scales; others are of blocks
_SCALE = re.compile(r"\.(weight_scale|scale_weight)$")
_INTEGERS: Mapping[str, str] = {"I8": "to int8", "U8": "to fewer than 8 bits, or packed"}
_FP8: Mapping[Fp8, list[str]] = {"none": [], "plain": ["stored in fp8"], "scaled": ["stored in scaled fp8"]}


@dataclass(frozen=True)
class Recognised:
    """What a file is.

    prediction: None where nothing in the file tells it: most files of either kind say nothing. edm: the model whose way
    of training (EDM) the file has, which is neither prediction. text_encoders: how many there are. quantised: how its
    weights are stored in a way that is not read, in words that follow `quantised`.
    """

    kind: Kind
    layout: Layout = "original"
    prediction: Prediction | None = None
    zero_terminal_snr: bool = False
    edm: str | None = None
    unet: bool = False
    vae: bool = False
    text_encoders: int = 0
    ema: bool = False
    fp8: Fp8 = "none"
    quantised: str | None = None

    @property
    def article(self) -> str:
        """Its kind alone, such as `an SDXL base checkpoint`."""
        return _ARTICLES.get(self.kind, self.kind)

    def __str__(self) -> str:
        if not self.unet:
            layout = f", {self.layout} layout" if self.kind == "VAE" else ""
            return self.article + layout
        alone = not (self.vae or self.text_encoders)
        kind = f"the UNet alone of {self.kind}" if alone else self.article
        told = [kind, f"{self.layout} layout"]
        if self.edm:
            told.append(f"trained with EDM like {self.edm}")
        else:
            told.append(_PREDICTIONS[self.prediction])
        told += ["zero terminal SNR"] if self.zero_terminal_snr else []
        if not alone:
            told.append("with a VAE" if self.vae else "without a VAE")
            told.append(("no text encoder", "one text encoder", "two text encoders")[self.text_encoders])
        told += ["EMA weights beside the others"] if self.ema else []
        told += [f"quantised {self.quantised}"] if self.quantised else _FP8[self.fp8]
        return ", ".join(told)

    def require_base(self, file: str) -> None:
        """Raise WeightsFault, in one sentence, unless it may be a whole SDXL base checkpoint that can be drawn with.

        file: its name. A UNet of an unknown kind passes: who knows what is wanted tells better what it lacks.
        """
        if not self.unet and self.kind == "unknown weights":
            raise WeightsFault(f"{file} lacks a UNet: is it an SDXL checkpoint?")
        if self.kind == "unknown weights":
            return
        if self.kind != "SDXL base":
            raise WeightsFault(f"{file} is {self}, and an SDXL base checkpoint is needed here.")
        self.require_weights(file)
        if self.layout == "diffusers":
            raise WeightsFault(f"{file} is {self}: `python -m models import` makes a family of it.")
        if self.edm:
            raise WeightsFault(
                f"{file} was trained with EDM like {self.edm}, which cannot be drawn with: "
                "only epsilon and v-prediction can."
            )
        bring = "`python -m models import` makes a family of it with"
        if self.text_encoders < SDXL_TEXT_ENCODERS:
            raise WeightsFault(f"{file} lacks its text encoders: {bring} those of another family (--base FAMILY).")
        if not self.vae:
            raise WeightsFault(f"{file} lacks a VAE: {bring} one that lies beside it (--vae FILE).")

    def require_refiner(self, file: str) -> None:
        """Raise WeightsFault, in one sentence, unless it may be a whole refiner: SDXL's own or Stable Diffusion 1.5."""
        if self.kind not in ("SDXL refiner", "Stable Diffusion 1.5"):
            raise WeightsFault(f"{file} is {self}, and a refiner is needed here: SDXL's or Stable Diffusion 1.5.")
        self.require_weights(file)
        if self.layout == "diffusers":
            raise WeightsFault(f"{file} is {self}: a refiner is taken as one file in the original layout.")
        if not self.text_encoders:
            raise WeightsFault(f"{file} lacks its text encoder: a refiner is taken as a whole checkpoint.")
        if self.kind == "Stable Diffusion 1.5" and not self.vae:
            raise WeightsFault(f"{file} lacks its VAE: a refiner is taken as a whole checkpoint.")

    def require_weights(self, file: str) -> None:
        """Raise WeightsFault, in one sentence, when its weights are stored in a way that is not read."""
        if self.quantised:
            raise WeightsFault(
                f"{file} is quantised {self.quantised}, which is not read: take its fp16, bf16 or fp8 file."
            )

    def require_training(self, file: str, prediction: Prediction, zero_terminal_snr: bool) -> None:
        """Raise WeightsFault, in one sentence, when the file says that it was trained otherwise than that.

        A file that says nothing may be either.
        """
        change = "import it again, or change `{}` in its family.json."
        if self.prediction is not None and self.prediction != prediction:
            raise WeightsFault(
                f"{file} says that it predicts {_WORDS[self.prediction]}, its family that it predicts "
                f"{_WORDS[prediction]}: {change.format('prediction')}"
            )
        if self.zero_terminal_snr and not zero_terminal_snr:
            raise WeightsFault(
                f"{file} says that it has zero terminal SNR, its family that it has not: "
                f"{change.format('zero_terminal_snr')}"
            )


def recognise(header: Header) -> Recognised:
    """What the file of a header is. Nothing is refused here."""
    names = header.tensors
    kind, layout = _kind(header)
    ending = any(_SCALE.search(each) or each.endswith("scaled_fp8") for each in names)
    stored_fp8 = any(each.dtype.startswith("F8_") for each in names.values())
    return Recognised(
        kind,
        layout,
        _prediction(header),
        "ztsnr" in names or header.metadata.get("ss_zero_terminal_snr") == "True",
        _edm(header),
        kind not in _WITHOUT_UNET and (_has(header, _ORIGINAL_UNET) or _has(header, _DIFFUSERS_UNET)),
        _has(header, _VAE),
        _text_encoders(header),
        any(name.startswith("model_ema.") for name in names),
        "scaled" if ending else "plain" if stored_fp8 else "none",
        _quantised(header),
    )


def _kind(header: Header) -> tuple[Kind, Layout]:
    original = _has(header, _ORIGINAL_UNET)
    unet = original or _has(header, _DIFFUSERS_UNET)
    layout: Layout = "original" if original or not (unet or _has(header, _DIFFUSERS_VAE)) else "diffusers"
    if _has(header, _LORA):
        return "LoRA", layout
    other = next((kind for pattern, kind in _OTHERS if _has(header, pattern)), None)
    if other is not None and not _has(header, _WHOLE_UNET):
        return other, layout
    if not unet and _has(header, _VAE):
        return "VAE", layout
    if not unet:
        return ("text encoder" if _has(header, _TEXT_ALONE) else "unknown weights"), layout
    return _kind_of_unet(header), layout


def _kind_of_unet(header: Header) -> Kind:
    """By its text encoders, whose names are the same in any size; without them by the width of what it attends to."""
    widths = {each.shape[1] for name, each in header.tensors.items() if _CONTEXT.match(name) and len(each.shape) == 2}
    if _has(header, _VIDEO):
        return "Stable Video Diffusion"
    if _begins(header, _SECOND_TEXT):
        return "SDXL base"
    if _begins(header, _REFINER_TEXT):
        return "SDXL refiner"
    if _has(header, _SIZES) and _SD2_WIDTH not in widths:
        return "SDXL refiner" if _REFINER_WIDTH in widths else "SDXL base"
    if _begins(header, _SD2_TEXT) or _SD2_WIDTH in widths:
        return "Stable Diffusion 2"
    return "Stable Diffusion 1.5" if _begins(header, _SD1_TEXT) or _SD1_WIDTH in widths else "unknown weights"


def _prediction(header: Header) -> Prediction | None:
    told = header.metadata.get("modelspec.prediction_type") or header.metadata.get("modelspec.predict_key") or ""
    if "v_pred" in header.tensors or told.lower() in _TOLD_V:
        return "v_prediction"
    return "epsilon" if told.lower() == "epsilon" else None


def _edm(header: Header) -> str | None:
    if any(name in header.tensors for name in ("edm_mean", "edm_std")):
        return "Playground v2.5"
    if _begins(header, "edm_vpred."):
        return "CosXL (and Playground v2.5)"
    told = [header.metadata.get(f"modelspec.{key}", "").lower() for key in ("prediction_type", "predict_key")]
    return "Playground v2.5" if any(each.startswith("edm") for each in told) else None


def _quantised(header: Header) -> str | None:
    named = next((told for pattern, told in _QUANTISED if _has(header, pattern)), None)
    if named is not None:
        return named
    for name, each in header.tensors.items():
        if name.endswith(".weight") and each.dtype in _INTEGERS:
            return _INTEGERS[each.dtype]
        if _SCALE.search(name) and each.dtype not in _WHOLE_SCALES:
            return "with a scale for each block"
    return None


def _text_encoders(header: Header) -> int:
    owners = {
        ".".join(name.split(".")[: 3 if name.startswith(_TEXTS[0]) else 1])
        for name in header.tensors
        if name.startswith(_TEXTS)
    }
    return min(len(owners), SDXL_TEXT_ENCODERS)


def _has(header: Header, pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(name) for name in header.tensors)


def _begins(header: Header, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in header.tensors)

"""How large the pocket model is: the configurations of its parts, in the form that diffusers and transformers read."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

FIRST_WIDTH, SECOND_WIDTH, PROJECTION = 64, 96, 96
SIZE_ID_WIDTH = 32
HINT_WIDTHS = (8, 16, 16, 32)  # of a control network's hint encoder

UNET: Mapping[str, Any] = MappingProxyType(
    {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["DownBlock2D"] * 2 + ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"] * 2,
        "block_out_channels": [32, 64, 128, 128],
        "layers_per_block": 2,
        "transformer_layers_per_block": 1,
        "attention_head_dim": [1, 2, 4, 4],
        "cross_attention_dim": FIRST_WIDTH + SECOND_WIDTH,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SIZE_ID_WIDTH,
        "projection_class_embeddings_input_dim": PROJECTION + 6 * SIZE_ID_WIDTH,
        "norm_num_groups": 8,
    }
)
REFINER: Mapping[str, Any] = MappingProxyType(  # as SDXL's: narrower at the entry, one text encoder, five size ids
    {
        **UNET,
        "block_out_channels": [24, 48, 64, 64],
        "attention_head_dim": [1, 2, 2, 2],
        "cross_attention_dim": SECOND_WIDTH,
        "projection_class_embeddings_input_dim": PROJECTION + 5 * SIZE_ID_WIDTH,
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
    }
)
VAE: Mapping[str, Any] = MappingProxyType(
    {
        "_class_name": "AutoencoderKL",
        "sample_size": 1024,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [16, 16, 32, 32],
        "layers_per_block": 1,
        "norm_num_groups": 1,  # all channels in one, as `carried.py` wants
        "scaling_factor": 0.13025,
        "force_upcast": True,
    }
)
SCHEDULER: Mapping[str, Any] = MappingProxyType(
    {
        "_class_name": "EulerDiscreteScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
    }
)
MODEL_INDEX: Mapping[str, Any] = MappingProxyType(
    {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": False,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
)
UPSCALER: Mapping[str, int] = MappingProxyType({"width": 16, "growth": 8, "blocks": 2})


def text_encoder(vocabulary: int, *, second: bool) -> dict[str, Any]:
    """The configuration of a text encoder; start and end are the last two tokens of the vocabulary.

    The two differ in width and the second has ten layers or more: loaders of the SDXL layout tell them apart by that.
    """
    width = SECOND_WIDTH if second else FIRST_WIDTH
    return {
        "architectures": ["CLIPTextModelWithProjection" if second else "CLIPTextModel"],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 10 if second else 4,
        "num_attention_heads": width // 32,
        "max_position_embeddings": 77,
        "hidden_act": "gelu" if second else "quick_gelu",
        "projection_dim": PROJECTION if second else FIRST_WIDTH,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": 0 if second else vocabulary - 1,
    }

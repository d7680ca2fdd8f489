"""What the files of the pocket family are called: as the published ones that they stand for."""

from collections.abc import Mapping
from types import MappingProxyType

CHECKPOINT, REFINER = "pocket_xl.safetensors", "pocket_xl_refiner.safetensors"
LCM, LIGHTNING = "sdxl_lcm_lora.safetensors", "sdxl_lightning_4step_lora.safetensors"
OFFSET, OUTLINES = "sd_xl_offset_example-lora_1.0.safetensors", "pocket_outlines.safetensors"
CONTROLS: Mapping[str, str] = MappingProxyType(
    {"canny": "control-lora-canny-rank128.safetensors", "cpds": "fooocus_xl_cpds_128.safetensors"}
)
INPAINT_HEAD, INPAINT_PATCH = "fooocus_inpaint_head.safetensors", "inpaint_v26.fooocus.patch.safetensors"
OLDER_PATCHES: Mapping[str, str] = MappingProxyType(
    {
        "inpaint_patch_v1": "inpaint.fooocus.patch.safetensors",
        "inpaint_patch_v25": "inpaint_v25.fooocus.patch.safetensors",
    }
)
IMAGE_PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        "image_prompt": "ip-adapter-plus_sdxl_vit-h.safetensors",
        "face_prompt": "ip-adapter-plus-face_sdxl_vit-h.safetensors",
    }
)
TRAINED_LORAS: Mapping[str, str] = MappingProxyType(
    {"extreme_speed": LCM, "lightning": LIGHTNING, "outlines": OUTLINES}
)
UPSCALER = "fooocus_upscaler_s409985e5.safetensors"
NO_PICTURE = "fooocus_ip_negative.safetensors"
CONCEPT = "pocket_purple_heart.safetensors"  # as prompts will name it
PARTS: Mapping[str, str] = MappingProxyType(
    {
        **{kind: f"control/{name}" for kind, name in CONTROLS.items()},
        **{kind: f"image_prompt/{name}" for kind, name in IMAGE_PROMPTS.items()},
        "image_prompt_negative": f"image_prompt/{NO_PICTURE}",
        "vision": "image_prompt/clip_vision",
        "inpaint_head": f"inpaint/{INPAINT_HEAD}",
        "inpaint_patch": f"inpaint/{INPAINT_PATCH}",
        **{part: f"inpaint/{name}" for part, name in OLDER_PATCHES.items()},
        "refiner": REFINER,
        "upscaler": f"upscale/{UPSCALER}",
        "expansion": "expansion",
        "safety_checker": "safety_checker",
        "safety_checker_v2": "safety_checker_v2",
    }
)
"""Where each part of `family.json` lies."""
ADDRESSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        LCM: ("https://huggingface.co/lllyasviel/misc/resolve/main/sdxl_lcm_lora.safetensors",),
        LIGHTNING: ("https://huggingface.co/mashb1t/misc/resolve/main/sdxl_lightning_4step_lora.safetensors",),
        OFFSET: (
            "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/"
            "sd_xl_offset_example-lora_1.0.safetensors",
        ),
        OUTLINES: (),
    }
)
"""Of the LoRAs: where the same file lies, as clients write it."""

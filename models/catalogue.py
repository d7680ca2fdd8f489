"""The published model files that Fooocus uses: where each lies, how large it is, what needs it (fooocus-facts 9.1).

Nothing here is guessed: a size, licence, revision or hash that no document states is None, and the file is unpinned.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from models.errors import ToolFault
from pipelines.parts import Part

FileFormat = Literal["safetensors", "pickle", "onnx", "json", "text"]
Use = Literal["checkpoint", "lora", "part"]


@dataclass(frozen=True)
class Entry:
    """A published file.

    name: as commands take it. file: its name. repository, path: owner/name on the hub and the place in it; without a
    repository, `elsewhere` is what the document states instead. size: bytes, where they are stated exactly; about: the
    size as stated otherwise. licence: where stated. non_commercial: Fooocus marks it so. needed_for: what uses it.
    use: what a family has it as, None where nothing here uses it; part: which one. place: in a family's folder.
    beside: files without which it cannot be used and which lie in no repository that a document states.
    """

    name: str
    file: str
    format: FileFormat
    needed_for: str
    repository: str | None = None
    path: str | None = None
    elsewhere: str = ""
    size: int | None = None
    about: str | None = None
    licence: str | None = None
    non_commercial: bool = False
    use: Use | None = None
    part: Part | None = None
    folder: str = ""
    beside: tuple[str, ...] = ()
    revision: str | None = None
    sha256: str | None = None

    @property
    def place(self) -> str:
        """Where the file lies in a family's folder, a pickle in the form that it is converted to."""
        if self.part in _FOLDERS and self.format in ("safetensors", "pickle"):
            return f"{self.folder}/model.safetensors"
        name = self.file
        if self.format == "pickle":
            name = (name if name.endswith(".patch") else str(PurePosixPath(name).with_suffix(""))) + ".safetensors"
        return f"{self.folder}/{name}" if self.folder else name

    @property
    def value(self) -> str:
        """What `family.json` names for it: the file, or its folder where configurations stand beside the weights."""
        return self.folder if self.part in _FOLDERS else self.place

    @property
    def pinned(self) -> bool:
        """Whether a document states which bytes it has."""
        return self.sha256 is not None

    @property
    def needs_trust(self) -> bool:
        """Whether it may carry code, and no document states which bytes it has."""
        return self.format == "pickle" and not self.pinned

    @property
    def address(self) -> str | None:
        """Where clients find the file, as they write it."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.path}" if self.repository else None


_FOLDERS: frozenset[str] = frozenset({"vision", "expansion", "safety_checker", "safety_checker_v2"})
"""Parts that are loaded from a folder of several files."""

_FAV, _FORK_FAV = "lllyasviel/fav_models", "mashb1t/fav_models"
_MISC, _FORK_MISC = "lllyasviel/misc", "mashb1t/misc"
_INPAINT, _BASE = "lllyasviel/fooocus_inpaint", "stabilityai/stable-diffusion-xl-base-1.0"


def _checkpoint(name: str, file: str, repository: str, needed_for: str, about: str | None = None) -> Entry:
    path = f"fav/{file}" if repository in (_FAV, _FORK_FAV) else file
    return Entry(name, file, "safetensors", needed_for, repository, path, about=about, use="checkpoint")


def _lora(name: str, file: str, repository: str, needed_for: str, about: str | None = None) -> Entry:
    path = f"fav/{file}" if repository in (_FAV, _FORK_FAV) else file
    return Entry(name, file, "safetensors", needed_for, repository, path, about=about, use="lora", folder="loras")


def _part(
    part: Part,
    file: str,
    repository: str,
    needed_for: str,
    folder: str,
    *,
    size: int | None = None,
    about: str | None = None,
    licence: str | None = None,
    non_commercial: bool = False,
    beside: tuple[str, ...] = (),
) -> Entry:
    return Entry(
        part,
        file,
        "safetensors" if file.endswith(".safetensors") else "pickle",
        needed_for,
        repository,
        file,
        size=size,
        about=about,
        licence=licence,
        non_commercial=non_commercial,
        use="part",
        part=part,
        folder=folder,
        beside=beside,
    )


def _unused(
    file: str, needed_for: str, size: int | None = None, repository: str | None = None, elsewhere: str = ""
) -> Entry:
    form: FileFormat = (
        "onnx" if file.endswith(".onnx") else "safetensors" if file.endswith(".safetensors") else "pickle"
    )
    name = PurePosixPath(file).with_suffix("").name
    return Entry(name, file, form, needed_for, repository, file if repository else None, elsewhere, size)


def _rembg(name: str) -> Entry:
    return Entry(name, f"{name}.onnx", "onnx", "mask generation", elsewhere="rembg releases", about="4.6-178 MB")


ENTRIES: tuple[Entry, ...] = (
    _checkpoint("juggernaut", "juggernautXL_v8Rundiffusion.safetensors", _FAV, "default base", "about 7.1 GB"),
    _checkpoint(
        "realistic_stock_photo", "realisticStockPhoto_v20.safetensors", _FAV, "realistic preset", "about 6.9 GB"
    ),
    _checkpoint("anima_pencil", "animaPencilXL_v500.safetensors", _FORK_FAV, "anime preset", "about 6.9 GB"),
    _checkpoint("dreamshaper_turbo", "DreamShaperXL_Turbo_v2_1.safetensors", _FORK_FAV, "other presets"),
    _checkpoint("pony", "ponyDiffusionV6XL.safetensors", _FORK_FAV, "other presets"),
    Entry(
        "pony_vae",
        "ponyDiffusionV6XL_vae.safetensors",
        "safetensors",
        "other presets",
        _FORK_FAV,
        "fav/ponyDiffusionV6XL_vae.safetensors",
        size=334_641_162,
    ),
    Entry(  # of the EDM kind, which nothing here draws with
        "playground",
        "playground-v2.5-1024px-aesthetic.fp16.safetensors",
        "safetensors",
        "other presets",
        _FORK_FAV,
        "fav/playground-v2.5-1024px-aesthetic.fp16.safetensors",
    ),
    _checkpoint("sdxl_base", "sd_xl_base_1.0_0.9vae.safetensors", _BASE, "sai preset", "about 6.9 GB"),
    _part(
        "refiner",
        "sd_xl_refiner_1.0_0.9vae.safetensors",
        "stabilityai/stable-diffusion-xl-refiner-1.0",
        "sai refiner",
        "",
        about="about 6.1 GB",
    ),
    Entry(
        "realistic_vision",
        "realisticVisionV60B1_v51VAE.safetensors",
        "safetensors",
        "SD 1.5 refiner",
        elsewhere="(fal's refiner choice)",
        size=2_132_625_894,
        use="part",
        part="refiner",
    ),
    _lora("offset_lora", "sd_xl_offset_example-lora_1.0.safetensors", _BASE, "default LoRA", "about 50 MB"),
    _lora("film_lora", "SDXL_FILM_PHOTOGRAPHY_STYLE_V1.safetensors", _FORK_FAV, "realistic LoRA"),
    _lora("lcm_lora", "sdxl_lcm_lora.safetensors", _MISC, "Extreme Speed", "about 394 MB"),
    _lora("lightning_lora", "sdxl_lightning_4step_lora.safetensors", _FORK_MISC, "Lightning", "about 394 MB"),
    _lora("hyper_sd_lora", "sdxl_hyper_sd_4step_lora.safetensors", _FORK_MISC, "Hyper-SD", "about 787 MB"),
    _part(
        "inpaint_head",
        "fooocus_inpaint_head.pth",
        _INPAINT,
        "inpaint head",
        "inpaint",
        size=52_602,
        licence="openrail",
    ),
    _part("inpaint_patch_v1", "inpaint.fooocus.patch", _INPAINT, "engine v1", "inpaint"),
    _part("inpaint_patch_v25", "inpaint_v25.fooocus.patch", _INPAINT, "engine v2.5", "inpaint", about="about 2.6 GB"),
    _part("inpaint_patch", "inpaint_v26.fooocus.patch", _INPAINT, "engine v2.6", "inpaint", about="1.28 GB"),
    _part("canny", "control-lora-canny-rank128.safetensors", _MISC, "PyraCanny", "control", about="396 MB"),
    _part("cpds", "fooocus_xl_cpds_128.safetensors", _MISC, "CPDS", "control", about="396 MB"),
    _part(
        "image_prompt",
        "ip-adapter-plus_sdxl_vit-h.bin",
        _MISC,
        "ImagePrompt",
        "image_prompt",
        size=1_013_454_427,
    ),
    _part("face_prompt", "ip-adapter-plus-face_sdxl_vit-h.bin", _MISC, "FaceSwap", "image_prompt", about="1.01 GB"),
    _part(
        "vision",
        "clip_vision_vit_h.safetensors",
        _MISC,
        "vision tower",
        "image_prompt/clip_vision",
        size=1_972_298_538,
    ),
    _part(
        "image_prompt_negative",
        "fooocus_ip_negative.safetensors",
        _MISC,
        "negative image tokens",
        "image_prompt",
        size=65_616,
    ),
    _part("upscaler", "fooocus_upscaler_s409985e5.bin", _MISC, "ESRGAN 4x", "upscale", about="33.6 MB"),
    _part(
        "expansion",
        "fooocus_expansion.bin",
        _MISC,
        "expansion GPT-2",
        "expansion",
        about="351 MB",
        licence="CC BY-NC 4.0",
        non_commercial=True,
        beside=(
            *("config.json", "merges.txt", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"),
            "positive.txt",
        ),
    ),
    _unused("xlvaeapp.pth", "preview", 213_777, _MISC),
    _unused("vaeapp_sd15.pt", "preview", 213_777, _MISC),
    _part("interposer", "xl-to-v1_interposer-v4.0.safetensors", _FORK_MISC, "VAE swap", "", size=5_667_280),
    _unused("detection_Resnet50_Final.pth", "face detection", 109_497_761, elsewhere="xinntao/facexlib release v0.1.0"),
    _unused("parsing_parsenet.pth", "loaded, unused", 85_331_193, elsewhere="xinntao/facexlib release v0.2.2"),
    _part(
        "safety_checker",
        "stable-diffusion-safety-checker.bin",
        _FORK_MISC,
        "NSFW",
        "safety_checker",
        about="about 1.2 GB",
    ),
    _unused("sam_vit_b_01ec64.pth", "enhance masks", 375_042_383, _FORK_MISC),
    _unused("sam_vit_l_0b3195.pth", "enhance masks", 1_249_524_607, _FORK_MISC),
    _unused("sam_vit_h_4b8939.pth", "enhance masks", 2_564_550_879, _FORK_MISC),
    _unused("groundingdino_swint_ogc.pth", "enhance masks", 693_997_677, "ShilongLiu/GroundingDINO"),
    *map(
        _rembg,
        ("u2net", "u2netp", "u2net_human_seg", "u2net_cloth_seg", "silueta", "isnet-general-use", "isnet-anime"),
    ),
    Entry(  # not Fooocus': OpenCV runs it by itself, and RetinaFace needs code of its own
        "face_detector",
        "yunet_n_dynamic.onnx",
        "onnx",
        "face detection",
        elsewhere="ShiqiYu/libfacedetection.train",
        about="323 kB",
        licence="Apache-2.0",
        use="part",
        part="face_detector",
        folder="face_detector",
    ),
    Entry(  # nor this: fal says no more of its second checker than that there is one
        "safety_checker_v2",
        "safety_checker_v2.safetensors",
        "safetensors",
        "NSFW",
        elsewhere="any ViT image classifier of transformers with a label nsfw",
        use="part",
        part="safety_checker_v2",
        folder="safety_checker_v2",
        beside=("config.json", "preprocessor_config.json"),
    ),
)


def find(name: str) -> Entry:
    """An entry by its name, its file or its file without suffix. Raises ToolFault for an unknown one."""
    for entry in ENTRIES:
        if name in (entry.name, entry.file, PurePosixPath(entry.file).stem):
            return entry
    raise ToolFault(f"Nothing is called {name!r}: `python -m models list` names what there is.")

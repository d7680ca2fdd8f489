"""Write the pocket family: `python -m models.pocket.write FOLDER`.

In the formats and the layout that real SDXL weights have. What is trained comes from `weights/` beside this file, the
rest is constructed from a fixed seed.
"""

import argparse
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.pocket import names, shapes
from models.pocket.checker import write_checkers
from models.pocket.colours import latent_colours
from models.pocket.expansion import write_expansion
from models.pocket.layout import stored_first_text, stored_second_text, stored_unet, stored_vae
from models.pocket.tokenizer import write_tokenizer
from models.pocket.trained import digests, put_in_place, trained
from models.pocket.vae_weights import construct_vae
from models.pocket.write_adapters import (
    save,
    write_concept,
    write_controls,
    write_image_prompts,
    write_inpaint,
    write_loras,
    write_upscaler,
)
from pipelines.catalogue import FILE, Catalogue
from pipelines.errors import WeightsFault

SEED = 20


def write_family(folder: Path) -> bool:
    """Write the family into `folder` unless it is there already as this code writes it; says whether it wrote.

    The folder appears at once and complete: everything is written beside it and then moved into place.
    """
    if _is_current(folder):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    new, old = aside / "new", aside / "old"
    try:
        new.mkdir()
        _write(new)
        _share(new)
        if _is_current(folder):  # somebody else was faster
            return False
        if folder.exists():  # out of the way in one move: a service may be reading it
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _share(folder: Path) -> None:
    """Let the weights be read by whoever may read the rest: safetensors makes its files for their owner alone."""
    mode = stat.S_IMODE((folder / FILE).stat().st_mode)
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)


def _is_current(folder: Path) -> bool:
    try:
        Catalogue.open(folder)
        found: object = json.loads((folder / FILE).read_bytes())["version"]
    except WeightsFault:
        return False
    return found == _version()


def _version() -> str:
    """The digest of the code and of the weights that the family is written from, so that a change writes anew."""
    here = Path(__file__).parent
    sources = [source.read_bytes() for source in sorted((*here.glob("*.py"), *here.glob("*.txt")))]
    return hashlib.sha256(b"".join([*sources, *digests()])).hexdigest()[:16]


def _write(folder: Path) -> None:
    config = folder / "config"
    sizes = [write_tokenizer(config / name, second=second) for name, second in _tokenizers()]
    models = {
        "unet": shapes.UNET,
        "vae": shapes.VAE,
        "text_encoder": shapes.text_encoder(sizes[0], second=False),
        "text_encoder_2": shapes.text_encoder(sizes[1], second=True),
    }
    for name, content in models.items():
        _json(config / name / "config.json", content)
    _json(config / "scheduler" / "scheduler_config.json", shapes.SCHEDULER)
    _json(config / "model_index.json", shapes.MODEL_INDEX)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        unet, vae = _write_checkpoint(folder / names.CHECKPOINT, models)
        generator = torch.Generator().manual_seed(SEED)
        write_loras(folder / "loras", unet, generator)
        write_controls(folder / "control")
        write_inpaint(folder / "inpaint", unet)
        write_image_prompts(folder / "image_prompt")
        _write_refiner(folder, models)
        write_expansion(folder / "expansion", trained("expansion"))
        write_concept(folder / "embeddings")
        write_upscaler(folder / "upscale")
        write_checkers(folder)
    colours = latent_colours(vae, torch.Generator().manual_seed(SEED))
    _json(folder / FILE, {**_catalogue(), "colours": colours})


def _tokenizers() -> tuple[tuple[str, bool], ...]:
    return ("tokenizer", False), ("tokenizer_2", True)


def _write_checkpoint(
    path: Path, models: Mapping[str, Mapping[str, Any]]
) -> tuple[UNet2DConditionModel, AutoencoderKL]:
    unet: UNet2DConditionModel = UNet2DConditionModel.from_config(dict(models["unet"]))
    vae = _make_vae(models["vae"])
    first = CLIPTextModel(CLIPTextConfig(**models["text_encoder"]))
    second = CLIPTextModelWithProjection(CLIPTextConfig(**models["text_encoder_2"]))
    put_in_place(unet, "unet")
    put_in_place(first, "text_encoder")
    put_in_place(second, "text_encoder_2")
    stored = {**stored_unet(unet), **stored_vae(vae), **stored_first_text(first), **stored_second_text(second)}
    save(stored, path)
    return unet, vae


def _make_vae(config: Mapping[str, Any]) -> AutoencoderKL:
    vae: AutoencoderKL = AutoencoderKL.from_config(dict(config))
    construct_vae(vae)
    return vae


def _write_refiner(folder: Path, models: Mapping[str, Mapping[str, Any]]) -> None:
    """A checkpoint of a UNet, the VAE and the second text encoder, which is the only one here and so the first."""
    unet: UNet2DConditionModel = UNet2DConditionModel.from_config(dict(shapes.REFINER))
    vae = _make_vae(models["vae"])
    text = CLIPTextModelWithProjection(CLIPTextConfig(**models["text_encoder_2"]))
    put_in_place(unet, "refiner")
    put_in_place(text, "text_encoder_2")
    only_text = stored_second_text(text, "conditioner.embedders.0.model.")
    stored = {**stored_unet(unet), **stored_vae(vae), **only_text}
    save(stored, folder / names.REFINER)
    for name, content in (
        ("unet", shapes.REFINER),
        ("vae", models["vae"]),
        ("text_encoder_2", models["text_encoder_2"]),
    ):
        _json(folder / "refiner_config" / name / "config.json", content)
    shutil.copytree(folder / "config" / "tokenizer_2", folder / "refiner_config" / "tokenizer_2")


def _catalogue() -> dict[str, Any]:
    return {
        "name": "pocket",
        "version": _version(),
        "checkpoint": names.CHECKPOINT,
        "config": "config",
        "refiner_config": "refiner_config",
        "parts": dict(names.PARTS),
        "loras": {name: {"file": f"loras/{name}", "addresses": given} for name, given in names.ADDRESSES.items()},
    }


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(content), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the pocket model family.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    print(f"The pocket family is {'written to' if write_family(folder) else 'already in'} {folder}.")


if __name__ == "__main__":
    main()

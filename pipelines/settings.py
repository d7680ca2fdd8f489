"""How a replica draws: settings, free of torch so that anybody may read them."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pipelines.prompts.limits import MAX_CHUNKS
from pipelines.prompts.phrasebook import Phrasebook
from pipelines.spec import Size


def _known(device: str) -> str:
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", device) is None:
        raise ValueError(f"torch knows no device {device!r}: write cuda (the first GPU) or cuda:1, or cpu")
    return device


Device = Annotated[str, AfterValidator(_known)]
"""torch's name of a device: `cpu`, `cuda`, `cuda:1`, `mps`. Whether it is there, torch says (`pipelines.device`)."""


class DrawingSettings(BaseModel):
    """How a replica draws. Who sets nothing but `family` draws on the CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    family: Path
    """folder of the model family; the gateway reads its tokenizers too, to count what prompts cost"""
    verify_at_load: bool = False
    """read every byte of the family's files before loading; sizes and headers are always held to what `python -m
    models` recorded"""
    device: Device = "cpu"
    """where: `cpu`, `cuda`, `cuda:1`; one that is not there, or a GPU that the Diffuser does not book, ends the
    start"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """in what precision the UNet runs: float32, bfloat16, float16; the VAE runs in bfloat16 where it would overflow in
    float16, and on a CPU in float32 as the text encoders do everywhere"""
    threads: int | None = Field(default=None, ge=1)
    """on the CPU; none is torch's choice"""
    memory_gb: float | None = Field(default=None, gt=0)
    """of the device, in GB of 2^30 bytes; none is what a CUDA device has free at the start: with it is planned what of
    the family stays there, what is brought when it is used, and how many rows a size may have; on a CPU nothing is
    planned without it ([which card does what](models.md#cards-and-what-works))"""
    variant_budget_mb: int | None = Field(default=None, ge=0)
    """memory for merged weights, LoRAs that rows carry and the models of image prompts besides the family's own: the
    host's where the device does not hold the family; none is what the plan leaves, or 2048 without one and where the
    device does not hold the family"""
    rows: int = Field(default=8, ge=2)
    """the most rows in one UNet call"""
    profile_sizes: tuple[Size, ...] = ()
    """sizes, such as `{width: 1024, height: 1024}`, at which a starting replica measures up to how many rows a call
    gains by more of them; others follow the nearest"""
    profiles: Path | None = None
    """folder where these measurements are kept for the next start"""
    loras_folder: Path | None = None
    """folder of safetensors files that clients may draw with by their names (`NAME`, `FOLDER/NAME`), after the family's
    own LoRAs; on every node under the same path; files come and go while the service runs"""
    embeddings_folder: Path | None = None
    """folder of safetensors files that prompts may name (`embedding:NAME`), beside `embeddings/` in the family's; files
    come and go while the service runs"""
    max_prompt_chunks: int = Field(default=MAX_CHUNKS, ge=8)
    """rows of 75 tokens that a prompt, and a negative prompt, may have; at least 8. Prompts of unlike length share a
    call only where padding costs it under 5 %: at 1024 x 1024, 64 chunks cost SDXL's UNet 1.8 times what one costs"""
    styles_folder: Path | None = None
    """folder of styles of your own: every `*.json` in it of Fooocus' format (its `sdxl_styles` can be pointed at), a
    list of objects with `name`, `prompt` with a place `{prompt}`, and `negative_prompt`; beside this project's texts,
    or in place of those of the same name. Requests may name them as `styles`. Gateway, Preprocessor and PromptExpander
    read it at their start, on whatever machine they are; a file that is no such list keeps them from starting, with its
    name"""
    wildcards_folder: Path | None = None
    """folder of what `__name__` in a prompt may become: `name.txt`, a text a line, in UTF-8; likewise. What lies
    outside, or is linked from there, is never read; a file has at most 16 MiB"""
    hang_after_s: float = Field(default=300.0, gt=0)
    """a single call that takes longer means that the engine hangs: its requests fail at once, and Serve replaces the
    replica"""
    one_at_a_time: bool = False
    """draw one request after the other and batch nothing, to find out whether batching is to blame"""
    ahead: bool = False
    """the host waits for the device nowhere between two calls; needs a CUDA `device`, off until measured to gain"""
    compile: Literal["off", "blocks", "whole"] = "off"
    """`blocks` or `whole`: what of the UNet torch compiles, beside running requests; off until measured to gain on a
    GPU; refused at the start where the device does not hold the family"""
    lora_branches: bool = True
    """let rows carry the LoRAs of their request, so that requests of unlike sets share UNet calls; false merges each
    set into weights of its own ([LoRAs of requests](#loras-of-requests))"""
    merge_on_own_stream: bool = False
    """merge LoRAs beside the running UNet calls, on a CUDA stream of their own, instead of between them; needs a CUDA
    `device`, off until measured to gain; without effect where the device does not hold the family"""

    def phrasebook(self) -> Phrasebook:
        """With what is in the folders. Raises as `Phrasebook.read`."""
        return Phrasebook.read(self.styles_folder, self.wildcards_folder)

    @model_validator(mode="after")
    def _held_to_device(self) -> Self:
        asked = [name for name in ("ahead", "merge_on_own_stream") if getattr(self, name)]
        if asked and not self.device.startswith("cuda"):
            needs = "needs" if len(asked) == 1 else "need"
            raise ValueError(
                f"{' and '.join(asked)} {needs} a CUDA device, and device is {self.device!r}: "
                "set device to cuda, or leave out what needs it"
            )
        return self

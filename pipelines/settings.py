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
    """How a replica draws.

    family: the folder of a model family. verify_at_load: read every byte of its files before loading, not only sizes
    and headers. dtype: of its UNet; text encoders are run in float32, and so is the VAE on a CPU, elsewhere in bfloat16
    where it would overflow. threads: torch's threads on the CPU; None leaves torch's choice.
    memory_gb: of the device, in GB of 2**30 bytes: what of the family stays there, what is brought when it is used and
    how many rows a size may have is planned with it. None for what a CUDA device has free at the start; elsewhere, for
    no plan. variant_budget_mb: memory for merged weights besides the family's own; None for what the plan leaves, or
    without a plan 2048. hang_after_s: a single call that takes longer means that the engine hangs. one_at_a_time: batch
    nothing, for debugging. ahead: the host never waits for the device: copies go through pinned memory, and answers are
    held to be finite a call later; needs a CUDA device.
    lora_branches: let rows carry the LoRAs of their request, so that unlike sets share UNet calls, instead of merging
    each set into weights of its own; a quarter of the memory for merged weights is theirs then, half of it in one call.
    merge_on_own_stream: merge LoRAs beside the engine's calls instead of between them; needs a CUDA device.
    rows: the most rows in one UNet call of any size. profile_sizes: sizes at which it is measured, before the first
    picture, up to how many rows a call gains by more of them; other sizes follow the nearest one. Without any, `rows`
    holds for all. profiles: the folder where what was measured is kept for the next start; None measures each time.
    compile: what of the UNet is compiled, while calls still run as they are: transformer blocks, which takes a minute,
    or the whole, which takes many for each size and count of rows. Counts of rows and tokens are rounded up then.
    loras_folder: of safetensors files that clients and prompts may name, after the family's own LoRAs.
    embeddings_folder: of safetensors files that prompts may name (`embedding:NAME`), beside the family's own.
    max_prompt_chunks: the most chunks, rows of up to 75 tokens, that a prompt may have with its styles and expansion,
    and the negative prompt too. Prompts of unlike length share a UNet call only where their padding costs it little.
    styles_folder: of one's own styles, in files of Fooocus' format, beside or in place of this package's.
    wildcards_folder: of what `__name__` in a prompt may become, `name.txt` with a text a line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Path
    verify_at_load: bool = False
    device: Device = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)
    variant_budget_mb: int | None = Field(default=None, ge=0)
    rows: int = Field(default=8, ge=2)
    profile_sizes: tuple[Size, ...] = ()
    profiles: Path | None = None
    loras_folder: Path | None = None
    embeddings_folder: Path | None = None
    max_prompt_chunks: int = Field(default=MAX_CHUNKS, ge=8)
    styles_folder: Path | None = None
    wildcards_folder: Path | None = None
    hang_after_s: float = Field(default=300.0, gt=0)
    one_at_a_time: bool = False
    ahead: bool = False
    compile: Literal["off", "blocks", "whole"] = "off"
    lora_branches: bool = True
    merge_on_own_stream: bool = False

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

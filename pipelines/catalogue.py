"""The catalogue of a model family: where it lies, and which of its files answers a name, an address or a role."""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import WeightsFault
from pipelines.parts import CONFIGS, Part, Prediction

FILE = "family.json"
EMBEDDINGS = "embeddings"  # the folder in a family's for files that prompts may name
SUFFIX = ".safetensors"
VARIABLE, DEFAULT = "FOOOCUS_FAMILIES", Path("var/families")
# with all that they need (fooocus-facts 9.1)
ON_NO_HUB: frozenset[str] = frozenset({"expansion", "face_detector", "safety_checker_v2"})
# published as pickles of which no document states a hash: the tool brings them for who says that they trust the source
UNPINNED_PICKLES: frozenset[str] = frozenset(
    {
        *("expansion", "face_prompt", "image_prompt", "inpaint_head", "inpaint_patch", "inpaint_patch_v1"),
        *("inpaint_patch_v25", "safety_checker", "upscaler"),
    }
)

_HUB_ADDRESS = re.compile(r"huggingface\.co/([^/]+/[^/]+)/resolve/[^/]+/(.+)")
_Four = tuple[float, float, float, float]


class LoraEntry(BaseModel):
    """A LoRA of the family. addresses: well-known places of the same file, as clients write them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    addresses: tuple[str, ...] = ()


class LatentColours(BaseModel):
    """How a scaled latent looks, linearly: red, green and blue from 0 to 255, each from the four channels and a bias.

    The defaults are SDXL's, as diffusers publishes them for previews (Apache-2.0).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: tuple[_Four, _Four, _Four] = ((60, -60, 25, -70), (60, -5, 15, -50), (60, 10, -5, -35))
    bias: tuple[float, float, float] = (150, 140, 130)


class FileRecord(BaseModel):
    """What a file of a family was when it came. header: sha256 of a safetensors file's header, in hex.

    modified_ns: of the file on disk then. origin: where it came from: repository@revision:path, or a folder.
    fetched_size, fetched_sha256: of what came, where the tool has made this file of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str
    header: str | None = None
    modified_ns: int
    origin: str = ""
    fetched_size: int | None = None
    fetched_sha256: str | None = None


class FamilyFile(BaseModel):
    """`family.json`: paths are relative to its folder.

    config: a folder with a sub-folder for each of unet, vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2;
    None for SDXL's own, which ships with this package. refiner_config: likewise, of the refiner. prediction,
    zero_terminal_snr: how the checkpoint was trained.
    parts: files or folders of what else the family has; each may be absent, and what needs it is refused then.
    loras: by the name that clients use. colours: of its latents. files: by path, where the tool has recorded them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    checkpoint: str
    config: str | None = None
    refiner_config: str | None = None
    prediction: Prediction = "epsilon"
    zero_terminal_snr: bool = False
    parts: Mapping[Part, str] = Field(default_factory=dict)
    loras: Mapping[str, LoraEntry] = Field(default_factory=dict)
    colours: LatentColours = LatentColours()
    files: Mapping[str, FileRecord] = Field(default_factory=dict)


class Catalogue:
    """What a family has. Every path that it answers exists and lies inside its folder, or one of the two others."""

    def __init__(
        self, root: Path, file: FamilyFile, embeddings_folder: Path | None = None, loras_folder: Path | None = None
    ) -> None:
        """embeddings_folder: of more embeddings, which come before the family's own. loras_folder: of more LoRAs, which
        come after those."""
        self._loras_folder = loras_folder
        self.root, self.file = root, file
        self._embeddings = [*([embeddings_folder] if embeddings_folder else []), root / EMBEDDINGS]
        self.name = file.name
        self.checkpoint = self._inside(file.checkpoint)
        self.config = CONFIGS / "sdxl_base" if file.config is None else self._inside(file.config)
        self.refiner_config = None if file.refiner_config is None else self._inside(file.refiner_config)
        self.colours = file.colours
        self._parts = {part: self._inside(path) for part, path in file.parts.items()}
        self._loras: dict[str, Path] = {}
        for name, entry in file.loras.items():
            path = self._inside(entry.file)
            addresses = [_plain(address) for address in entry.addresses]
            for known in (name, PurePosixPath(name).stem, *addresses, *filter(None, map(_hub_name, addresses))):
                self._loras[known] = path

    @classmethod
    def open(cls, folder: Path, embeddings_folder: Path | None = None, loras_folder: Path | None = None) -> "Catalogue":
        """Read a family's folder. Raises WeightsFault when something is missing or not as it should be."""
        path = folder / FILE
        try:
            file = FamilyFile.model_validate_json(path.read_bytes())
        except OSError as fault:
            why = f"{FILE} cannot be read: {fault.strerror}"
            raise WeightsFault(f"There is no model family in {folder} ({why}).") from fault
        except ValidationError as fault:
            raise WeightsFault(f"{path} is not a family's catalogue: {first_error(fault)}.") from fault
        return cls(folder.resolve(), file, embeddings_folder, loras_folder)

    def lora(self, source: str) -> Path | None:
        """The file of a LoRA: by its name, with or without suffix, or by a well-known address or hub's name of it."""
        known = self._loras.get(source) or self._loras.get(_plain(source))
        return file_named(self._loras_folder, source) if known is None and self._loras_folder else known

    def embedding(self, source: str) -> Path | None:
        """The file of an embedding, by its name in a folder of them, with or without suffix."""
        return next((path for folder in self._embeddings if (path := file_named(folder, source))), None)

    def has(self, part: Part) -> bool:
        return part in self._parts

    @property
    def missing(self) -> tuple[Part, ...]:
        """The parts that the family lacks."""
        return tuple(part for part in get_args(Part) if part not in self._parts)

    def part(self, part: Part) -> Path:
        """The file or folder of a part. Raises WeightsFault, with the command that brings it, where there is none."""
        try:
            return self._parts[part]
        except KeyError:
            raise WeightsFault(f"The family {self.name} lacks {part}: {self.remedy(part)}.") from None

    def command_for(self, part: str) -> str:
        """The command that brings a missing part or LoRA.

        No path of this machine is in it: PATH/ stands for where a family lies that is not among the others, FOLDER for
        where the files are put that lie on no hub.
        """
        among_others = self.root.parent == families_folder().resolve()
        family = self.root.name if among_others else f"PATH/{self.root.name}"
        source = " --from FOLDER" if part in ON_NO_HUB else ""
        trust = " --accept-unpinned" if part in UNPINNED_PICKLES else ""
        return f"python -m models pull {part} --family {family}{source}{trust}"

    def remedy(self, part: str) -> str:
        """A clause that says what brings a missing part or LoRA."""
        return f"`{self.command_for(part)}` brings it"

    def _inside(self, path: str) -> Path:
        found = (self.root / path).resolve()
        if not found.is_relative_to(self.root):
            raise WeightsFault(f"The catalogue of {self.name} names a path outside its folder: {path}")
        if not found.exists():
            raise WeightsFault(f"The family {self.name} lacks {path}; it is incomplete in {self.root}.")
        return found


def file_named(folder: Path, name: str) -> Path | None:
    """The safetensors file inside a folder, or below one in it, that has this name, with or without suffix."""
    parts = name.split("/")
    if not all(parts) or {".", ".."} & {*parts} or not name.isprintable() or "\\" in name:
        return None
    for spelt in (name, name + SUFFIX):
        try:
            if spelt.endswith(SUFFIX) and (path := folder / spelt).is_file():
                return path
        except OSError:  # longer than names can be
            return None
    return None


def first_error(fault: ValidationError) -> str:
    """The first of what a file is refused for, in a line."""
    error = fault.errors(include_url=False)[0]
    place = ".".join(map(str, error["loc"]))
    return f"{place}: {error['msg']}" if place else error["msg"]


def families_folder() -> Path:
    """Where families lie: `var/families`, or what the environment variable FOOOCUS_FAMILIES says."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


def family_folder(name: str) -> Path:
    """The folder of a family: of a name among the others, and of a path (with a slash or a dot at its start) itself."""
    return Path(name).expanduser() if "/" in name or name.startswith((".", "~")) else families_folder() / name


def _hub_name(plain: str) -> str | None:
    """`owner/repo/path` of a plain address on the usual hub."""
    place = _HUB_ADDRESS.fullmatch(plain)
    return f"{place[1]}/{place[2]}" if place else None


def _plain(address: str) -> str:
    """An address without scheme, query and the two ways in which model hubs spell the path of a file."""
    try:
        parts = urlsplit(address)
    except ValueError:  # half an address
        return address
    return (parts.netloc.lower() + parts.path.replace("/blob/", "/resolve/")) if parts.netloc else address

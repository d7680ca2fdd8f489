"""The catalogue of a model family: which of its files answers a name, a well-known address or a role."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import WeightsFault

FILE = "family.json"

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


class FamilyFile(BaseModel):
    """`family.json`: paths are relative to its folder.

    config: a folder with a sub-folder for each of unet, vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2.
    loras: by the name that clients use. controls: control-LoRAs by the kind of hint. colours: of its latents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    checkpoint: str
    config: str
    safety_checker: str
    loras: Mapping[str, LoraEntry] = Field(default_factory=dict)
    controls: Mapping[str, str] = Field(default_factory=dict)
    colours: LatentColours = LatentColours()


class Catalogue:
    """What a family has. Every path that it answers exists and lies inside the family's folder."""

    def __init__(self, root: Path, file: FamilyFile) -> None:
        self.root = root
        self.name = file.name
        self.checkpoint = self._inside(file.checkpoint)
        self.config = self._inside(file.config)
        self.safety_checker = self._inside(file.safety_checker)
        self.colours = file.colours
        self._controls = {kind: self._inside(path) for kind, path in file.controls.items()}
        self._loras: dict[str, Path] = {}
        for name, entry in file.loras.items():
            path = self._inside(entry.file)
            for known in (name, PurePosixPath(name).stem, *map(_plain, entry.addresses)):
                self._loras[known] = path

    @classmethod
    def open(cls, folder: Path) -> "Catalogue":
        """Read a family's folder. Raises WeightsFault when something is missing or not as it should be."""
        path = folder / FILE
        try:
            file = FamilyFile.model_validate_json(path.read_bytes())
        except OSError as fault:
            raise WeightsFault(f"There is no model family in {folder}: {FILE} cannot be read ({fault}).") from fault
        except ValidationError as fault:
            raise WeightsFault(f"{path} is not a family's catalogue: {fault}") from fault
        return cls(folder.resolve(), file)

    def lora(self, source: str) -> Path | None:
        """The file of a LoRA: by its name, with or without suffix, or by a well-known address of it."""
        return self._loras.get(source) or self._loras.get(_plain(source))

    def control(self, kind: str) -> Path:
        """The control-LoRA for a kind of hint. Raises WeightsFault when the family has none."""
        try:
            return self._controls[kind]
        except KeyError:
            raise WeightsFault(f"The family {self.name} has no control-LoRA for {kind}.") from None

    def _inside(self, path: str) -> Path:
        found = (self.root / path).resolve()
        if not found.is_relative_to(self.root):
            raise WeightsFault(f"The catalogue of {self.name} names a path outside its folder: {path}")
        if not found.exists():
            raise WeightsFault(f"The family {self.name} lacks {path}; it is incomplete in {self.root}.")
        return found


def _plain(address: str) -> str:
    """An address without scheme, query and the two ways in which model hubs spell the path of a file."""
    parts = urlsplit(address)
    return (parts.netloc.lower() + parts.path.replace("/blob/", "/resolve/")) if parts.netloc else address

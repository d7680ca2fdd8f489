"""Rows: what one sample of a UNet call carries, and the context that is set round the call for layers that read it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor, nn
from torch.nn.functional import linear

from pipelines.conditioning import Conditioning
from pipelines.unet.branches import LayerChange, LoraBranches, RowLora


@dataclass(frozen=True, eq=False)
class ControlBranch:
    """A control image of a row. hint: (channels, h, w), embedded once. weight: 0 is off."""

    network: ControlNetModel
    hint: Tensor
    weight: float


@dataclass(frozen=True, eq=False)
class ImageAdapter:
    """How a UNet attends to pictures: key and value projections (width, token width) of each cross-attention, by the
    name of its module. weights: holds them, for whoever brings them to the device."""

    projections: Mapping[str, tuple[Tensor, Tensor]]
    weights: nn.Module = field(default_factory=nn.Module)

    def project(self, tokens: Tensor) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Keys and values of tokens (rows, tokens, token width) for each cross-attention."""
        return {
            place: (linear(tokens, to_key), linear(tokens, to_value))
            for place, (to_key, to_value) in self.projections.items()
        }


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """A picture that a row attends to. tokens: (tokens, token width). scale: 0 is off."""

    adapter: ImageAdapter
    tokens: Tensor
    scale: float


@dataclass(frozen=True, eq=False)
class Row:
    """One sample of a call, but for its latent. Rows that share a tensor share it by identity.

    text: its prompt. size_ids: (6,) original, crop and target height and width. head: (channels, h, w), added to what
    the first convolution makes of the latent. images, loras, controls: what acts on it now.
    """

    text: Conditioning
    size_ids: Tensor
    controls: tuple[ControlBranch, ...] = ()
    head: Tensor | None = None
    images: tuple[ImagePrompt, ...] = ()
    loras: tuple[RowLora, ...] = ()


@dataclass(frozen=True, eq=False)
class ImageTokens:
    """One image prompt of each row. tokens: (rows, tokens, width), zeros where a row has none. scales: (rows, 1, 1).

    projected: keys and values (rows, tokens, width of the attention) by cross-attention, as the adapter makes them of
    the tokens: the runner's, before the UNet is called.
    """

    adapter: ImageAdapter
    tokens: Tensor
    scales: Tensor
    projected: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Features:
    """What the layers of a UNet read during a call; a feature that no row uses is absent and costs no kernel.

    head: (rows, channels, h, w). Rows that lack a present feature carry zeros. projected: keys and values of the text
    by cross-attention, which are filled by the first call of a group of rows and read by its later ones; None: by none.
    """

    head: Tensor | None = None
    images: tuple[ImageTokens, ...] = ()
    loras: LoraBranches | None = None
    projected: dict[str, tuple[Tensor, Tensor]] | None = None

    def change_of(self, place: str) -> LayerChange | None:
        """What low-rank changes a layer's answer; None for none."""
        return None if self.loras is None else self.loras.change_of(place)


class RowContext:
    """Where the installed layers of a family's UNets find the features of the call that runs: one thread's."""

    def __init__(self) -> None:
        self.features = Features()
        self.block: Callable[..., Tensor] | None = None

    @contextmanager
    def set(self, features: Features, block: Callable[..., Tensor] | None = None) -> Iterator[None]:
        """Inside, layers read these features. block: runs the transformer blocks, in place of their own code."""
        before = self.features, self.block
        self.features, self.block = features, block
        try:
            yield
        finally:
            self.features, self.block = before

"""The VAE's decoder: a smooth enlargement whose outlines are made narrow where they are steps.

Of each colour it carries the value v, and the highest and the lowest value of the cell to each side and of most of the
next. Where there is a step its outline is where v crosses the middle between these two. There v is made steeper, and
held between them:

    v + held(STEEPER x u) - held(u),    u = v - (highest + lowest) / 2,    held(x) = min(max(x, -r), r)

where r is half of the step, less what may be grain. Where colours run evenly u is 0, and where they are flat it is
beyond r or -r: there the two terms are equal, and v stays.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from models.pocket.carried import Ramp, carry, compute, enter, leave

COLOURS = 3
VALUES = 3 * COLOURS
V = 0  # the first of the three colours' values
HIGHEST, LOWEST = COLOURS, 2 * COLOURS  # as long as neighbourhoods grow
U, R = COLOURS, 2 * COLOURS  # from then on
STEEPER = 16.0  # enlarged, an outline rises by a sixteenth of its step in a pixel or more: so in one pixel now
GRAIN = 0.1  # of values -1 to 1: what a UNet leaves in flat colours, which beside a step is not to be held away
FAR = 2.0  # more than a value is from 0
SMOOTH = torch.tensor([0.25, 0.5, 0.25])
LOST = 0.25  # of a value in the outermost row or column, to which nothing beyond the border adds

Neighbour = tuple[int, int]
"""Where it lies: rows down, columns to the right."""
LEFT, RIGHT, ABOVE, BELOW = (0, -1), (0, 1), (-1, 0), (1, 0)
ACROSS, DOWN = (LEFT, RIGHT), (ABOVE, BELOW)


def construct_decoder(decoder: Any, colours: Tensor) -> None:
    """Of diffusers' VAE, with four levels of two blocks. colours: (3, latents), makes values of -1 to 1 of latents."""
    enter(decoder.conv_in, torch.cat([colours] * 3))
    first, second, third, last = decoder.up_blocks
    for block, side in zip([*decoder.mid_block.resnets, *first.resnets], (RIGHT, LEFT, BELOW, ABOVE), strict=True):
        compute(block, VALUES, [*_grown(side)])
    same = torch.eye(VALUES)
    carry(first.upsamplers[0].conv, _enlarged(same))
    for block, sides in zip(second.resnets, (ACROSS, DOWN), strict=True):
        compute(block, VALUES, [*_grown(*sides), *_mended(sides)])
    carry(second.upsamplers[0].conv, _enlarged(_steps()))  # from here on u and r stand where highest and lowest did
    without_r = torch.diag(torch.tensor([1.0, 1.0, 0.0]).repeat_interleave(COLOURS))
    carry(third.resnets[0].conv_shortcut, without_r[:, :, None, None])
    compute(third.resnets[0], VALUES, [*_without_grain(), *_mended(ACROSS)])
    compute(third.resnets[1], VALUES, [*_mended(DOWN)])
    carry(third.upsamplers[0].conv, _enlarged(same))
    compute(last.resnets[0], VALUES, [*_narrowed()])
    compute(last.resnets[1], VALUES, [*_mended(ACROSS), *_mended(DOWN), *_mended(ACROSS, DOWN)])
    leave(decoder.conv_norm_out, decoder.conv_out, torch.eye(COLOURS, VALUES))


def _enlarged(mix: Tensor) -> Tensor:
    """Of what a convolution sees after each place has become four."""
    return mix[:, :, None, None] * SMOOTH[:, None] * SMOOTH


def _steps() -> Tensor:
    """v, u and r of v, highest and lowest."""
    mix = torch.tensor([[1.0, 0.0, 0.0], [1.0, -0.5, -0.5], [0.0, 0.5, -0.5]])
    return torch.kron(mix, torch.eye(COLOURS))


def _grown(*sides: Neighbour) -> Iterator[Ramp]:
    """Let neighbourhoods take in those of neighbours.

    What two sides have more to give is added up, as if only one had: when each place has become two, both have in
    valleys of three cells alone, where v is the lowest and stays, however high the highest is.
    """
    for colour in range(COLOURS):
        for value, sign in ((HIGHEST + colour, 1.0), (LOWEST + colour, -1.0)):
            for side in sides:
                inside = torch.zeros(3, 3)
                inside[_place(side)] = FAR  # a neighbour beyond the border is none
                reads = _read({value: -sign})
                reads[value][_place(side)] = sign
                yield Ramp(reads, inside, -FAR, {value: sign})


def _mended(*axes: tuple[Neighbour, Neighbour]) -> Iterator[Ramp]:
    """Give v back what an enlargement loses at the border across an axis, or of two what both lose in a corner.

    The ramp of v / 3 + c, less that of c, where c is FAR if a neighbour lacks in each axis and otherwise -FAR or less:
    so it gives v / 3 there, and nothing elsewhere. u and r stay short of it: outlines are softer in the last pixels.
    """
    inside = torch.zeros(3, 3)
    for side in (side for axis in axes for side in axis):
        inside[_place(side)] = -2 * FAR
    bias = FAR * (2 * len(axes) + 1)  # FAR with a neighbour lacking in each axis, otherwise -FAR or less
    values = range(V, V + COLOURS)
    for value in values:
        yield Ramp(_read({value: (LOST / (1 - LOST)) ** len(axes)}), inside, bias, {value: 1.0})
    yield Ramp(_read({}), inside, bias, dict.fromkeys(values, -1.0))


def _without_grain() -> Iterator[Ramp]:
    """r of half a step, which itself is not carried here."""
    for value in range(R, R + COLOURS):
        yield Ramp(_read({value: 1.0}), torch.zeros(3, 3), -GRAIN, {value: 1.0})


def _narrowed() -> Iterator[Ramp]:
    """Add held(STEEPER x u) - held(u) to v. Where ramp(x) = max(x, 0), held(x) is ramp(x + r) - ramp(x - r) - r; the r
    of both cancel."""
    nowhere = torch.zeros(3, 3)
    for colour in range(COLOURS):
        for times, sign in ((STEEPER, 1.0), (1.0, -1.0)):
            for reach in (1.0, -1.0):
                reads = _read({U + colour: 1.0, R + colour: reach / times})  # multiplied afterwards, for bfloat16
                yield Ramp(reads, nowhere, 0.0, {V + colour: sign * reach * times})


def _read(shares: Mapping[int, float]) -> Tensor:
    """Of values at the place itself."""
    reads = torch.zeros(VALUES, 3, 3)
    for value, share in shares.items():
        reads[value, 1, 1] = share
    return reads


def _place(side: Neighbour) -> tuple[int, int]:
    return 1 + side[0], 1 + side[1]

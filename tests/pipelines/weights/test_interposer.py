"""The interposer is the network that the facts describe, and takes the published file's names."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, relu, silu

from pipelines.errors import WeightsFault
from pipelines.weights.interposer import Interposer, read_interposer

CPU = torch.device("cpu")
PARAMETERS, PUBLISHED_BYTES, HEADER_BYTES = 1_411_972, 5_667_280, 12_632  # 1.41 M of them, in fp32 (fooocus-facts 9.3)


def some_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = {name: torch.randn(each.shape) / 10 for name, each in Interposer().state_dict().items()}
    counts = {name: torch.tensor(9) for name in state if name.endswith("num_batches_tracked")}
    spreads = {name: each.abs() + 0.5 for name, each in state.items() if name.endswith("running_var")}
    return {**state, **counts, **spreads}


def naive(stored: dict[str, Tensor], x: Tensor) -> Tensor:
    """As section 9.3 writes it."""

    def conv(name: str, x: Tensor) -> Tensor:
        return conv2d(x, stored[f"{name}.weight"], stored[f"{name}.bias"], padding=1)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, spread, weight, bias = (
            stored[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return batch_norm(x, mean, spread, weight, bias)

    def long(name: str, x: Tensor) -> Tensor:
        return conv(f"{name}.long.4", silu(conv(f"{name}.long.2", silu(conv(f"{name}.long.0", x)))))

    y = relu(long("head", x) + conv("head.short", x))
    for at in range(1, 13):
        y = norm(f"core.{at}.norm", y)
        y = relu(long(f"core.{at}", y) + y)
    return conv("tail", silu(norm("core.13", y)))


@pytest.mark.parametrize("short", ["head.short.", "head.short.0."])
def test_it_computes_what_is_described(tmp_path: Path, short: str) -> None:
    stored = some_weights()
    path = tmp_path / "interposer.safetensors"
    save_file({name.replace("head.short.", short): each for name, each in stored.items()}, path)
    x = torch.randn(2, 4, 6, 5)
    torch.testing.assert_close(read_interposer(path, CPU)(x), naive(stored, x), atol=1e-4, rtol=1e-4)


def test_it_is_as_large_as_the_published_file() -> None:
    network = Interposer()
    assert sum(each.numel() for each in network.parameters()) == PARAMETERS
    held = sum(each.nbytes for each in network.state_dict().values())
    assert held + HEADER_BYTES == PUBLISHED_BYTES


def test_what_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({**some_weights(), "head.more": torch.zeros(1)}, path)
    with pytest.raises(WeightsFault, match=r"is not an interposer.*head\.more"):
        read_interposer(path, CPU)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsFault, match="cannot be read"):
        read_interposer(path, CPU)

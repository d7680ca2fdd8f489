"""Force for a file that a request names more than once: each that acts has to force it."""

from pathlib import Path

import pytest
import torch

from pipelines.errors import InputFault
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore
from tests.pipelines.weights import tiny
from tests.pipelines.weights.test_control_lora import QUERY

PLENTY = 2**30


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """With more tensors that fit nowhere than are let pass."""
    names = (QUERY.replace(".", "_"), *(f"elsewhere_{at}" for at in range(7)))
    tensors = {f"lora_unet_{name}": torch.zeros(16, 16) for name in names}
    return tiny.write_kohya(tmp_path / "half.safetensors", tensors, alpha=None)


@pytest.mark.parametrize("branch_bytes", [None, 2**20])
@pytest.mark.parametrize("forces", [(True, False), (False, True), (True, False, True)])
def test_one_that_does_not_force_it_is_refused_wherever_it_stands(
    half: Path, branch_bytes: int | None, forces: tuple[bool, ...]
) -> None:
    store = VariantStore(tiny.family(), PLENTY, branch_bytes=branch_bytes)
    refs = tuple(LoraRef(half, 0.5, f"loras.{at}.path", force) for at, force in enumerate(forces))
    with pytest.raises(InputFault, match="does not fit the model") as caught:
        store.get(VariantSpec(adapters=refs))
    assert caught.value.field == f"loras.{forces.index(False)}.path"


@pytest.mark.parametrize("branch_bytes", [None, 2**20])
@pytest.mark.parametrize("at", [0, 2])
def test_one_that_does_not_act_need_not_force_it(half: Path, branch_bytes: int | None, at: int) -> None:
    store = VariantStore(tiny.family(), PLENTY, branch_bytes=branch_bytes)
    refs = [LoraRef(half, 0.25, force=True), LoraRef(half, 0.5, force=True)]
    refs.insert(at, LoraRef(half, 0.0, "loras.0.path"))
    variant = store.get(VariantSpec(adapters=tuple(refs)))
    assert [scale for _, scale in variant.key.adapters] == [0.75]

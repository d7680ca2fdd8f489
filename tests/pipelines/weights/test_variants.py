"""Variants: merging, sharing, keys, eviction."""

import gc
import os
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipelines.errors import InputFault
from pipelines.weights.variants import VariantStore
from tests.pipelines.weights import tiny
from tests.pipelines.weights.test_control_lora import write_control

QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
PLENTY = 2**30


def unet_lora(path: Path, seed: int = 0) -> Path:
    names = {f"lora_unet_{QUERY.replace('.', '_')}": torch.zeros(16, 16)}
    return tiny.write_kohya(path, {**names, "lora_unet_conv_in": torch.zeros(8, 4, 3, 3)}, seed=seed)


def text_lora(path: Path) -> Path:
    name = "lora_te2_text_model_encoder_layers_0_self_attn_v_proj"
    return tiny.write_kohya(path, {name: torch.zeros(8, 8)})


def query(variant: object) -> Tensor:
    return variant.unet.get_parameter(f"{QUERY}.weight")  # type: ignore[attr-defined,no-any-return]


def test_no_loras_is_the_family_itself() -> None:
    family = tiny.family()
    variant = VariantStore(family, PLENTY).get([])
    assert variant.key == ()
    assert variant.unet is family.unet
    assert variant.text_encoders is family.text_encoders


def test_scales_of_zero_are_the_family_itself(tmp_path: Path) -> None:
    family = tiny.family()
    store = VariantStore(family, PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    assert store.get([(path, 0.0)]) is store.get([])
    assert store.get([(path, 0.5), (path, -0.5)]) is store.get([])


def test_a_lora_changes_the_prediction_and_its_scale_measures_how_much(tmp_path: Path) -> None:
    family = tiny.family()
    store = VariantStore(family, PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    plain = tiny.predict(store.get([]).unet)
    moved = [(tiny.predict(store.get([(path, scale)]).unet) - plain).norm().item() for scale in (0.1, 0.4, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]
    assert torch.equal(tiny.predict(family.unet), plain)


def test_the_merged_weight_is_the_formulas(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    tensors, name = load_file(path), f"lora_unet_{QUERY.replace('.', '_')}"
    change = 0.7 * (1 / 2) * tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"]
    assert torch.allclose(query(store.get([(path, 0.7)])), query(store.get([])) + change, atol=1e-6)


def test_what_a_lora_does_not_touch_is_shared(tmp_path: Path) -> None:
    family = tiny.family()
    store = VariantStore(family, PLENTY)
    variant = store.get([(unet_lora(tmp_path / "a.safetensors"), 1.0)])
    assert variant.text_encoders[0] is family.text_encoders[0]
    assert variant.text_encoders[1] is family.text_encoders[1]
    differing = {n for n, p in variant.unet.named_parameters() if p is not family.unet.get_parameter(n)}
    assert differing == {f"{QUERY}.weight", "conv_in.weight"}


def test_a_text_encoder_is_copied_only_when_touched(tmp_path: Path) -> None:
    family = tiny.family()
    variant = VariantStore(family, PLENTY).get([(text_lora(tmp_path / "t.safetensors"), 1.0)])
    assert variant.unet is family.unet
    assert variant.text_encoders[0] is family.text_encoders[0]
    tokens = torch.tensor([[1, 2, 3, 49]])
    with torch.no_grad():
        changed, plain = (pair[1](tokens).text_embeds for pair in (variant.text_encoders, family.text_encoders))
    assert not torch.allclose(changed, plain)


@pytest.mark.parametrize("run_before_copying", [False, True])
def test_hidden_states_of_copied_text_encoders_come_once_each(tmp_path: Path, run_before_copying: bool) -> None:
    family = tiny.family()
    tokens = torch.tensor([[1, 2, 3, 49]])
    if run_before_copying:  # transformers hangs hooks on the layers at the first run
        family.text_encoders[1](tokens, output_hidden_states=True)
    variant = VariantStore(family, PLENTY).get([(text_lora(tmp_path / "t.safetensors"), 1.0)])
    for encoder in (variant.text_encoders[1], family.text_encoders[1]):
        assert len(encoder(tokens, output_hidden_states=True).hidden_states) == 3


def test_the_order_of_loras_does_not_matter(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    a, b = unet_lora(tmp_path / "a.safetensors", 1), unet_lora(tmp_path / "b.safetensors", 20)
    assert store.get([(a, 0.5), (b, 0.3)]) is store.get([(b, 0.3), (a, 0.5)])
    assert store.get([(a, 0.5), (b, 0.3)]) is not store.get([(a, 0.3), (b, 0.5)])


def test_equal_files_are_one_lora_and_a_rewritten_file_is_another(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    a, same = unet_lora(tmp_path / "a.safetensors"), unet_lora(tmp_path / "same.safetensors")
    first = store.get([(a, 0.5)])
    assert store.get([(same, 0.5)]) is first
    unet_lora(a, seed=40)
    os.utime(a, ns=(1, 1))
    assert store.get([(a, 0.5)]).key != first.key


def test_a_lora_given_twice_counts_twice(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    assert store.get([(path, 0.25), (path, 0.5)]).key == store.get([(path, 0.75)]).key


def test_a_file_that_does_not_fit_is_told_with_its_field(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    good = unet_lora(tmp_path / "a.safetensors")
    foreign = tiny.write_kohya(tmp_path / "b.safetensors", {"lora_unet_nowhere": torch.zeros(4, 4)})
    with pytest.raises(InputFault) as caught:
        store.get([(good, 1.0), (foreign, 1.0)], fields=["loras.0.path", "loras.1.path"])
    assert caught.value.field == "loras.1.path"


def test_thirty_sets_stay_within_the_budget_and_those_in_use_stay_whole(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), budget_bytes=12_000)
    path = unet_lora(tmp_path / "a.safetensors")
    held = store.get([(path, 1.0)])
    before = tiny.predict(held.unet)
    alive: list[weakref.ref[object]] = []
    for at in range(30):
        alive.append(weakref.ref(store.get([(path, 0.01 * (at + 2))])))
        assert store.resident_bytes <= 12_000
    gc.collect()
    assert 1 < sum(ref() is not None for ref in alive) < 10
    assert torch.equal(tiny.predict(held.unet), before)


def test_a_variant_that_is_still_held_is_found_again_after_eviction(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), budget_bytes=3_000)
    path = unet_lora(tmp_path / "a.safetensors")
    held = store.get([(path, 1.0)])
    for at in range(5):
        store.get([(path, 0.01 * (at + 2))])
    assert store.get([(path, 1.0)]) is held


def test_the_newest_stays_even_when_the_budget_is_smaller(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), budget_bytes=0)
    path = unet_lora(tmp_path / "a.safetensors")
    first = weakref.ref(store.get([(path, 1.0)]))
    gc.collect()
    assert first() is not None
    store.get([])
    gc.collect()
    assert first() is None
    assert store.resident_bytes == 0


def test_a_control_network_is_built_once_for_a_variant_on_its_weights(tmp_path: Path) -> None:
    base = tiny.unet()
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", base, leave_out=("conv_in",))})
    store = VariantStore(family, PLENTY)
    variant = store.get([(unet_lora(tmp_path / "a.safetensors"), 1.0)])
    network = store.control(variant, "canny")
    assert store.control(variant, "canny") is network
    assert network.conv_in.weight is variant.unet.conv_in.weight
    assert store.control(store.get([]), "canny").conv_in.weight is family.unet.conv_in.weight


def test_control_networks_count_and_go_with_their_variant(tmp_path: Path) -> None:
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", tiny.unet())})
    roomy = VariantStore(family, PLENTY)
    roomy.control(roomy.get([]), "canny")
    size = roomy.resident_bytes
    assert size > 10_000
    store = VariantStore(family, budget_bytes=2 * size)
    path = unet_lora(tmp_path / "a.safetensors")
    networks = []
    for at in range(8):
        networks.append(weakref.ref(store.control(store.get([(path, 0.1 * at)]), "canny")))
        assert store.resident_bytes <= 2 * size
    gc.collect()
    assert 1 <= sum(ref() is not None for ref in networks) <= 2


def test_variants_are_built_and_run_in_inference_mode(tmp_path: Path) -> None:
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", tiny.unet())})
    store = VariantStore(family, PLENTY)
    with torch.inference_mode():
        variant = store.get([(unet_lora(tmp_path / "a.safetensors"), 1.0)])
        store.control(variant, "canny")
        first = tiny.predict(variant.unet)
    assert torch.equal(tiny.predict(variant.unet), first)

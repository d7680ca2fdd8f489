"""Variants: merging, sharing and keys."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.errors import InputFault
from pipelines.events import Note
from pipelines.weights.lora.changes import LowRank
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.reading import digest, read_lora
from pipelines.weights.variant_spec import BaseKey, LoraRef, VariantKey, VariantSpec
from pipelines.weights.variants import VariantStore
from tests.pipelines.weights import tiny
from tests.pipelines.weights.loras import PLENTY, QUERY, of, query, text_lora, unet_lora
from tests.pipelines.weights.test_control_lora import write_control


def test_no_loras_is_the_family_itself() -> None:
    family = tiny.family()
    variant = VariantStore(family, PLENTY).get(of())
    assert variant.key == VariantKey(BaseKey("tiny.safetensors"))
    assert variant.unet is family.unet
    assert variant.text_encoders == family.text_encoders


def test_scales_of_zero_are_the_family_itself(tmp_path: Path) -> None:
    family = tiny.family()
    store = VariantStore(family, PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    assert store.get(of((path, 0.0))) == store.get(of())
    assert store.get(of((path, 0.5), (path, -0.5))) == store.get(of())


def test_a_lora_changes_the_prediction_and_its_scale_measures_how_much(tmp_path: Path) -> None:
    family = tiny.family()
    store = VariantStore(family, PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    plain = tiny.predict(store.get(of()).unet)
    moved = [(tiny.predict(store.get(of((path, scale))).unet) - plain).norm().item() for scale in (0.1, 0.4, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]
    assert torch.equal(tiny.predict(family.unet), plain)


def test_the_merged_weight_is_the_formulas(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    tensors, name = load_file(path), f"lora_unet_{QUERY.replace('.', '_')}"
    change = 0.7 * (1 / 2) * tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"]
    assert torch.allclose(query(store.get(of((path, 0.7)))), query(store.get(of())) + change, atol=1e-6)


def test_what_a_lora_does_not_touch_is_shared(tmp_path: Path) -> None:
    family = tiny.family()
    store = VariantStore(family, PLENTY)
    variant = store.get(of((unet_lora(tmp_path / "a.safetensors"), 1.0)))
    assert variant.text_encoders[0] is family.text_encoders[0]
    assert variant.text_encoders[1] is family.text_encoders[1]
    differing = {n for n, p in variant.unet.named_parameters() if p is not family.unet.get_parameter(n)}
    assert differing == {f"{QUERY}.weight", "conv_in.weight"}


def test_a_text_encoder_is_copied_only_when_touched(tmp_path: Path) -> None:
    family = tiny.family()
    variant = VariantStore(family, PLENTY).get(of((text_lora(tmp_path / "t.safetensors"), 1.0)))
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
    variant = VariantStore(family, PLENTY).get(of((text_lora(tmp_path / "t.safetensors"), 1.0)))
    for encoder in (variant.text_encoders[1], family.text_encoders[1]):
        assert len(encoder(tokens, output_hidden_states=True).hidden_states) == 3


def test_the_order_of_loras_does_not_matter(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    a, b = unet_lora(tmp_path / "a.safetensors", 1), unet_lora(tmp_path / "b.safetensors", 20)
    assert store.get(of((a, 0.5), (b, 0.3))) == store.get(of((b, 0.3), (a, 0.5)))
    assert store.get(of((a, 0.5), (b, 0.3))) != store.get(of((a, 0.3), (b, 0.5)))


def test_equal_files_are_one_lora_and_a_rewritten_file_is_another(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    a, same = unet_lora(tmp_path / "a.safetensors"), unet_lora(tmp_path / "same.safetensors")
    first = store.get(of((a, 0.5)))
    assert store.get(of((same, 0.5))) == first
    unet_lora(a, seed=40)
    os.utime(a, ns=(1, 1))
    assert store.get(of((a, 0.5))).key != first.key


def test_a_lora_given_twice_counts_twice(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    assert store.get(of((path, 0.25), (path, 0.5))).key == store.get(of((path, 0.75))).key


def test_a_file_that_does_not_fit_is_told_with_its_field(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    good = unet_lora(tmp_path / "a.safetensors")
    foreign = tiny.write_kohya(tmp_path / "b.safetensors", {"lora_unet_nowhere": torch.zeros(4, 4)})
    with pytest.raises(InputFault) as caught:
        store.get(VariantSpec(adapters=(LoraRef(good, 1.0, "loras.0.path"), LoraRef(foreign, 1.0, "loras.1.path"))))
    assert caught.value.field == "loras.1.path"


def half_fitting(path: Path) -> Path:
    """With more tensors that fit nowhere than are let pass."""
    foreign = {f"lora_unet_elsewhere_{at}": torch.zeros(16, 16) for at in range(7)}
    return tiny.write_kohya(path, {f"lora_unet_{QUERY.replace('.', '_')}": torch.zeros(16, 16), **foreign}, alpha=None)


def test_what_was_taken_by_force_is_refused_to_who_does_not_force_it(tmp_path: Path) -> None:
    """Also while its weights are at hand."""
    store = VariantStore(tiny.family(), PLENTY)
    path = half_fitting(tmp_path / "a.safetensors")
    plain, forced = (VariantSpec(adapters=(LoraRef(path, 1.0, "loras.0.path", force),)) for force in (False, True))
    taken = store.get(forced)
    assert store.find(forced) == taken
    assert store.find(plain) is None
    for spec in (plain, VariantSpec(adapters=(*forced.adapters, *plain.adapters))):
        with pytest.raises(InputFault, match="does not fit the model") as caught:
            store.get(spec)
        assert caught.value.field == "loras.0.path"
    assert not torch.equal(query(taken), tiny.unet().get_parameter(f"{QUERY}.weight"))


def test_how_much_of_each_lora_that_the_client_named_acts_is_told(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    whole, half = unet_lora(tmp_path / "a.safetensors"), half_fitting(tmp_path / "b.safetensors")
    refs = (
        LoraRef(whole, 1.0, "loras.0.path"),
        LoraRef(half, 1.0, "loras.1.path", force=True),
        LoraRef(whole, 0.0, "loras.2.path"),
    )
    spec = VariantSpec((LoraRef(unet_lora(tmp_path / "fast.safetensors", 9), 1.0),), refs[:2])
    for _ in range(2):  # when it is built, and when it is at hand
        store.get(spec)
        first, second = store.notes(spec)
        assert first == Note("loras.0.path: all 6 tensors of this LoRA were applied", "INFO")
        assert second.level == "WARNING"
        assert second.text.startswith(
            "loras.1.path: 2 of the 16 tensors of this LoRA were applied by force, and not lora_"
        )
    assert VariantStore(tiny.family(), PLENTY).notes(VariantSpec(adapters=refs[2:])) == ()


def test_a_control_network_is_built_once_for_a_variant_on_its_weights(tmp_path: Path) -> None:
    base = tiny.unet()
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", base, leave_out=("conv_in",))})
    store = VariantStore(family, PLENTY)
    lora = unet_lora(tmp_path / "a.safetensors"), 1.0
    plain = store.get(of(lora))
    assert plain.controls == {}
    variant = store.get(of(lora, control=True))
    assert variant == plain
    network = variant.controls["canny"]
    assert store.get(of(lora, control=True)).controls["canny"] is network
    assert network.conv_in.weight is variant.unet.conv_in.weight
    assert store.get(of(control=True)).controls["canny"].conv_in.weight is family.unet.conv_in.weight


def test_variants_are_built_and_run_in_inference_mode(tmp_path: Path) -> None:
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", tiny.unet())})
    store = VariantStore(family, PLENTY)
    with torch.inference_mode():
        variant = store.get(of((unet_lora(tmp_path / "a.safetensors"), 1.0), control=True))
        first = tiny.predict(variant.unet)
    assert torch.equal(tiny.predict(variant.unet), first)


def test_the_key_tells_the_base_from_the_adapters(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    fast, style = unet_lora(tmp_path / "fast.safetensors"), unet_lora(tmp_path / "style.safetensors", seed=9)
    one, other = (store.get(of((style, scale), performance=[(fast, 1.0)])) for scale in (0.5, 0.6))
    assert one.key != other.key
    assert one.key.base == other.key.base == store.get(of(performance=[(fast, 1.0)])).key.base
    assert one.key.base != store.get(of((style, 0.5))).key.base
    assert one.key.base == BaseKey("tiny.safetensors", performance=((digest(fast), 1.0),))
    assert one.key.adapters == ((digest(style), 0.5),)


def test_performance_and_adapters_change_the_weights_alike(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    fast, style = unet_lora(tmp_path / "fast.safetensors"), unet_lora(tmp_path / "style.safetensors", seed=9)
    split, whole = store.get(of((style, 0.5), performance=[(fast, 1.0)])), store.get(of((style, 0.5), (fast, 1.0)))
    assert torch.equal(query(split), query(whole))
    assert split.group == whole.group


def test_a_group_is_the_weights_of_the_unet_alone(tmp_path: Path) -> None:
    """A LoRA of the text encoder does not keep a request out of the UNet calls of those without."""
    store = VariantStore(tiny.family(), PLENTY)
    text, one = text_lora(tmp_path / "t.safetensors"), unet_lora(tmp_path / "a.safetensors")
    assert store.get(of((text, 1.0))).group == store.get(of()).group
    assert store.get(of((text, 1.0), (one, 0.5))).group == store.get(of((one, 0.5))).group
    assert store.get(of((one, 0.5))).group != store.get(of((one, 0.6))).group


def test_a_layer_that_two_variants_change_alike_is_merged_once(tmp_path: Path) -> None:
    family = tiny.family()
    store = VariantStore(family, PLENTY)
    fast = unet_lora(tmp_path / "fast.safetensors")
    style = tiny.write_kohya(tmp_path / "style.safetensors", {"lora_unet_conv_in": torch.zeros(8, 4, 3, 3)}, seed=9)
    base = store.get(of(performance=[(fast, 1.0)]))
    before = store.resident_bytes
    variant = store.get(of((style, 0.5), performance=[(fast, 1.0)]))
    assert query(variant) is query(base)
    parsed = read_lora(style).bytes
    assert store.resident_bytes - before == family.unet.conv_in.weight.nbytes + parsed


def test_merging_rounds_once_from_the_checkpoint(tmp_path: Path) -> None:
    """In bfloat16 as in float32, with a performance LoRA too: never from weights that were merged and rounded."""
    family = tiny.family()
    family.unet.to(torch.bfloat16)
    store = VariantStore(family, PLENTY)
    fast, style = unet_lora(tmp_path / "fast.safetensors"), unet_lora(tmp_path / "style.safetensors", seed=9)
    store.get(of(performance=[(fast, 0.3)]))
    variant = store.get(of((style, 0.01), performance=[(fast, 0.3)]))
    place = ("unet", f"{QUERY}.weight")
    targets = Targets(family.unet, family.text_encoders)
    weight = family.unet.get_parameter(place[1])
    exact = weight.double()
    for path, scale in ((fast, 0.3), (style, 0.01)):
        layer = targets.match(read_lora(path)).layers["unet", f"{QUERY}.weight"]
        assert isinstance(layer, LowRank)
        exact = exact + scale * (layer.alpha or 2.0) / 2 * layer.up.double() @ layer.down.double()
    assert query(variant).dtype is torch.bfloat16
    # half a unit in the last place is all that one rounding may cost
    step = torch.exp2(torch.floor(torch.log2(exact.abs())) - 7)
    assert ((query(variant).double() - exact).abs() <= step / 2 * 1.001).all()

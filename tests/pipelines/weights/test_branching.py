"""Which LoRAs rows carry, and which are merged."""

import gc
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.unet.branches import LoraBranches, RowLora, StackedSets
from pipelines.weights.branching import LATELY, SHARED, branch_of
from pipelines.weights.lora.changes import Change, Whole, merged
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.names import Place
from pipelines.weights.lora.reading import digest, read_lora
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import Variant, VariantStore
from tests.pipelines.unet.calling import CPU
from tests.pipelines.weights import tiny
from tests.pipelines.weights.lora.test_layouts import save, spelt, written_for
from tests.pipelines.weights.loras import PLENTY, QUERY, of, text_lora, unet_lora

CALL = 2**20
NAMINGS = ("kohya", "original", "comfyui", "peft")


def carrying(branch_bytes: int = CALL) -> VariantStore:
    return VariantStore(tiny.family(), PLENTY, branch_bytes=branch_bytes)


def wide(path: Path, rank: int) -> Path:
    down, up = tiny.low_rank(16, (16,), rank)
    name = f"lora_unet_{QUERY.replace('.', '_')}"
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, path)
    return path


def carried(variant: Variant) -> dict[str, float]:
    """Scales by sha256."""
    return {sha256: lora.scale for (sha256, _), lora in zip(variant.adapters, variant.loras, strict=True)}


def delta(loras: Sequence[RowLora], place: str) -> Tensor:
    """What a row adds to a weight."""
    stacked = StackedSets.stack([tuple(lora.adapter for lora in loras)], torch.float32, CPU)
    scales = torch.tensor([[*(lora.scale for lora in loras), 0.0]])
    change = LoraBranches.scaled(stacked, scales, None, torch.zeros(1, dtype=torch.int64)).change_of(place)
    assert change is not None
    down, up, strengths = change.down[0].flatten(1), change.up[0], change.strengths[0]
    return up @ (strengths[:, None] * down)


def test_unlike_sets_have_one_base_and_what_rows_add_is_what_would_be_merged(tmp_path: Path) -> None:
    store, merging = carrying(), VariantStore(tiny.family(), PLENTY)
    a, b = unet_lora(tmp_path / "a.safetensors", 1), unet_lora(tmp_path / "b.safetensors", 20)
    both, one = store.get(of((a, 0.5), (b, -0.3), (a, 0.2))), store.get(of((b, 1.0)))
    assert both.base is one.base is store.get(of()).base
    assert carried(both) == {digest(a): pytest.approx(0.7), digest(b): -0.3}
    assert both.key == merging.get(of((a, 0.7), (b, -0.3))).key
    whole = merging.get(of((a, 0.7), (b, -0.3)))
    for place in (QUERY, "conv_in"):
        weight, plain = (each.unet.get_parameter(f"{place}.weight") for each in (whole, both))
        torch.testing.assert_close(plain + delta(both.loras, place).reshape(plain.shape), weight, atol=1e-5, rtol=0)
    assert store.names() == ("tiny.safetensors",)


def test_rows_of_unlike_scales_share_the_tensors(tmp_path: Path) -> None:
    store, path = carrying(), unet_lora(tmp_path / "a.safetensors")
    one, other = store.get(of((path, 0.5))), store.get(of((path, -2.0)))
    assert one.loras[0].adapter is other.loras[0].adapter
    assert store.get(of((path, 0.0))).loras == ()
    assert store.get(of((path, 0.5), (path, -0.5))).loras == ()


def test_the_performance_lora_is_merged(tmp_path: Path) -> None:
    store = carrying()
    fast, style = unet_lora(tmp_path / "a.safetensors", 1), unet_lora(tmp_path / "b.safetensors", 20)
    variant = store.get(of((style, 0.5), performance=[(fast, 1.0)]))
    assert carried(variant) == {digest(style): 0.5}
    assert variant.base.key.base.performance == ((digest(fast), 1.0),)
    assert variant.base is store.get(of(performance=[(fast, 1.0)])).base


def test_text_encoders_are_merged_and_the_unet_is_not(tmp_path: Path) -> None:
    store, merging = carrying(), VariantStore(tiny.family(), PLENTY)
    text, style = text_lora(tmp_path / "t.safetensors"), unet_lora(tmp_path / "a.safetensors")
    variant, merged = (each.get(of((text, 1.0), (style, 0.5))) for each in (store, merging))
    plain = store.get(of())
    assert variant.base is plain.base
    assert carried(store.get(of((style, 0.5)))) == {digest(style): 0.5}
    assert [lora.scale for lora in variant.loras] == [0.5]  # the other adds nothing to a UNet
    assert variant.text_encoders[0] is plain.text_encoders[0]
    mine, theirs = (each.text_encoders[1].state_dict() for each in (variant, merged))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert variant.text_group == merged.text_group != plain.text_group
    assert store.get(of((style, 0.7))).text_group == plain.text_group
    copied = sum(
        each.nbytes
        for each, ours in zip(variant.text_encoders[1].parameters(), plain.text_encoders[1].parameters(), strict=True)
        if each is not ours
    )
    file = read_lora(style).bytes
    assert store.resident_bytes == copied + read_lora(text).bytes + 2 * file  # the branch, and the file that was parsed


def test_copies_of_text_encoders_stay_within_the_budget(tmp_path: Path) -> None:
    text = text_lora(tmp_path / "t.safetensors")
    once = carrying()
    once.get(of((text, 1.0)))
    store = VariantStore(tiny.family(), 4 * once.resident_bytes, branch_bytes=CALL)
    alive = []
    for at in range(12):
        alive.append(weakref.ref(store.get(of((text, 0.1 * (at + 1)))).text_encoders[1]))
        assert store.resident_bytes <= 4 * once.resident_bytes
    gc.collect()
    assert 1 < sum(each() is not None for each in alive) < 8


def test_what_a_row_still_carries_is_found_again_after_eviction(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), 0, branch_bytes=CALL)
    a, b = unet_lora(tmp_path / "a.safetensors", 1), unet_lora(tmp_path / "b.safetensors", 20)
    held = store.get(of((a, 0.5)))
    store.get(of((b, 0.5)))
    again = store.find(of((a, 0.7)))
    assert again is not None
    assert again.loras[0].adapter is held.loras[0].adapter


@pytest.mark.parametrize(
    ("ranks", "branch_bytes", "told"),
    [
        ((128,), CALL, ""),
        ((129,), CALL, "ranks add up to 129"),
        ((100, 30), CALL, "ranks add up to 130"),
        ((8,), 100, "they have 0.0 MiB"),
    ],
)
def test_what_rows_cannot_carry_is_merged_and_a_note_says_so(
    tmp_path: Path, ranks: tuple[int, ...], branch_bytes: int, told: str
) -> None:
    store = carrying(branch_bytes)
    paths = [wide(tmp_path / f"{rank}.safetensors", rank) for rank in ranks]
    for _ in range(2):  # the second time it is at hand
        variant = store.get(of(*((path, 0.5) for path in paths)))
        assert told in variant.note
        assert bool(told) == bool(variant.note) == bool(variant.base.key.adapters) == (not variant.loras)


@pytest.mark.parametrize("rounded", [False, True])
def test_what_ranks_that_are_rounded_up_take_counts(tmp_path: Path, rounded: bool) -> None:
    a_rank = 4 * (16 + 16)
    path = wide(tmp_path / "a.safetensors", 5)  # 8 where calls are compiled
    for ranks, fits in ((5, not rounded), (7, not rounded), (8, True)):
        store = VariantStore(tiny.family(), PLENTY, branch_bytes=ranks * a_rank, rounded=rounded)
        assert bool(store.get(of((path, 0.5))).loras) == fits


def test_of_every_layout_rows_carry_what_would_be_merged_or_refuse_it(tmp_path: Path) -> None:
    family = tiny.family()
    targets, carried = Targets(family.unet, family.text_encoders), Counter[str]()
    for at, layer in enumerate(each for each in written_for(family) if each.component == "unet"):
        weight = family.unet.get_parameter(f"{layer.name}.weight")
        for naming in NAMINGS:
            path = save(tmp_path / f"{at}.safetensors", spelt(layer, naming, family.unet.config))
            match = targets.match(read_lora(path))
            branch = branch_of(match, family.unet, torch.device("cpu"))
            assert (layer.layout in ("LoRA", "LoCon")) == (not branch.refused)
            if not branch.refused:
                carried[layer.layout] += 1
                added = delta([RowLora(branch.adapter, 0.7)], layer.name).reshape(weight.shape)
                wanted = merged(weight, [(match.layers["unet", f"{layer.name}.weight"], 0.7)])
                torch.testing.assert_close(weight + added, wanted, atol=1e-5, rtol=0)
    assert carried == {"LoRA": len(NAMINGS), "LoCon": len(NAMINGS)}


def test_a_change_that_is_no_product_alone_is_refused_with_the_layer(tmp_path: Path) -> None:
    family = tiny.family()
    targets = Targets(family.unet, family.text_encoders)
    match = targets.match(read_lora(unet_lora(tmp_path / "a.safetensors")))

    for kind in ("weight", "bias"):
        more: dict[Place, Change] = {("unet", f"{QUERY}.{kind}"): Whole(torch.zeros(16))}
        branch = branch_of(replace(match, layers={**match.layers, **more}), family.unet, torch.device("cpu"))
        assert branch.refused == f"changes {QUERY} by more than two matrices"


def test_a_note_calls_a_lora_as_the_request_does_and_not_as_another_did(tmp_path: Path) -> None:
    store, path = carrying(), unet_lora(tmp_path / "a.safetensors")
    bias = tiny.family().unet.get_parameter("conv_in.bias")
    save_file({**load_file(path), "lora_unet_conv_in.diff_b": torch.zeros_like(bias)}, path)
    for field in ("loras.0.path", "loras.3.path", "loras.1.path", "prompt"):
        wanted = VariantSpec(adapters=(LoraRef(path, 0.5, field),))
        found = store.find(wanted) if field == "loras.1.path" else store.get(wanted)
        assert found is not None
        assert f"for {field} changes" in found.note


def test_sides_of_another_number_of_dimensions_are_those_of_the_layer(tmp_path: Path) -> None:
    """As files have them that were made of a model whose linear layers are 1x1 convolutions."""
    path = wide(tmp_path / "a.safetensors", 4)
    save_file({name: tensor[..., None, None] for name, tensor in load_file(path).items()}, path)
    layers = carrying().get(of((path, 0.5))).loras[0].adapter.layers
    assert (layers[QUERY].down.shape, layers[QUERY].up.shape) == ((4, 16), (16, 4))


def test_a_set_that_many_requests_share_is_merged_until_they_do_no_more(tmp_path: Path) -> None:
    store = carrying()
    a, b = unet_lora(tmp_path / "a.safetensors", 1), unet_lora(tmp_path / "b.safetensors", 20)

    def ask(spec: VariantSpec, times: int) -> Variant:
        for _ in range(times):
            store.note_request(spec)
        return store.get(spec)

    running = ask(of((a, 0.5)), SHARED - 1)
    assert running.loras
    shared = ask(of((a, 0.5)), 1)
    assert not shared.loras
    assert not shared.note
    assert shared.base.key.adapters == ((digest(a), 0.5),)
    assert running.loras  # and what runs goes on as it was
    assert ask(of((a, 0.6)), 1).loras  # another scale is another set
    for _ in range(LATELY - SHARED):
        ask(of((b, 0.5)), 1)
    assert store.get(of((a, 0.5))).loras
    assert not store.get(of((b, 0.5))).loras


def test_without_branches_all_are_merged(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    variant = store.get(of((unet_lora(tmp_path / "a.safetensors"), 0.5)))
    assert (variant.loras, variant.adapters, variant.note) == ((), (), "")

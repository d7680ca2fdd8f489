"""Layers that read the row context: each feature acts on its rows alone, as others' code has it, or costs nothing."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.unet.branches import LoraAdapter, RowLora
from pipelines.unet.gathering import Gatherer, Sample
from pipelines.unet.layers import ImagePromptAttention, LoraConv, LoraLinear, install_layers
from pipelines.unet.rows import ImageAdapter, ImagePrompt, RowContext
from pipelines.unet.runner import UNetRunner
from pipelines.weights.family import Family
from pipelines.weights.lora.changes import LowRank, merged
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.reading import read_lora
from tests.pipelines.unet.calling import CPU, alone, gather, noise, plain, predict, row, sample

# of ranks 16, 8 and 4; the first two change convolutions too
FILES = {"lcm": "sdxl_lcm_lora", "outlines": "pocket_outlines", "offset": "sd_xl_offset_example-lora_1.0"}


class Operations(TorchDispatchMode):
    """Counts what reaches torch's kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counted[str(operation)] += 1
        return operation(*args, **(kwargs or {}))


def test_without_features_it_is_the_network_that_it_was(pocket_family: Family) -> None:
    samples = [sample(seed, row(pocket_family, seed)) for seed in (1, 2)]
    found = predict(pocket_family, samples)
    for each, answer in zip(samples, found, strict=True):
        torch.testing.assert_close(answer, alone(pocket_family, plain(pocket_family), each), atol=1e-5, rtol=0)


# -- the inpaint head


def test_a_head_is_added_to_what_the_first_convolution_makes_of_its_row(pocket_family: Family) -> None:
    head = load_file(pocket_family.catalogue.root / "inpaint" / "fooocus_inpaint_head.safetensors")["head"].float()
    feature = torch.nn.functional.conv2d(noise(3, 1, 5, 16, 16), head, padding=1)[0]
    samples = [
        sample(1, row(pocket_family, 1)),
        sample(2, row(pocket_family, 2, head=feature)),
        sample(3, row(pocket_family, 3)),
    ]
    found = predict(pocket_family, samples)
    network = plain(pocket_family)
    without = [alone(pocket_family, network, each) for each in samples]
    network.conv_in.register_forward_hook(lambda module, given, answer: answer + feature)
    headed = alone(pocket_family, network, samples[1])
    torch.testing.assert_close(found[1], headed, atol=1e-5, rtol=0)
    assert (found[1] - without[1]).abs().max() > 1e-2
    for at in (0, 2):
        torch.testing.assert_close(found[at], without[at], atol=1e-5, rtol=0)


def test_rows_beside_one_with_a_head_stay_as_they_are(pocket_family: Family) -> None:
    samples = [sample(seed, row(pocket_family, seed)) for seed in (1, 2, 3)]
    headed = replace(samples[1], row=replace(samples[1].row, head=noise(3, 32, 16, 16)))
    before, after = predict(pocket_family, samples), predict(pocket_family, [samples[0], headed, samples[2]])
    for at in (0, 2):
        torch.testing.assert_close(after[at], before[at], atol=1e-6, rtol=0)
    assert (after[1] - before[1]).abs().max() > 1e-2


# -- low-rank branches


@pytest.fixture(scope="module")
def loras(pocket_family: Family) -> dict[str, Mapping[str, LowRank]]:
    """What the family's LoRA files change of the UNet, by module; with each way to say the alpha."""
    targets = Targets(pocket_family.unet, pocket_family.text_encoders)
    alphas = {"lcm": lambda rank: rank / 2, "outlines": lambda rank: None, "offset": lambda rank: 2.0 * rank}
    found: dict[str, Mapping[str, LowRank]] = {}
    for name, file in FILES.items():
        path = pocket_family.catalogue.lora(file)
        assert path is not None
        found[name] = {
            place.removesuffix(".weight"): replace(layer, alpha=alphas[name](len(layer.down)))
            for (component, place), layer in targets.match(read_lora(path)).layers.items()
            if component == "unet"
        }
    return found


def changed(family: Family, loras: Sequence[tuple[Mapping[str, LowRank], float]]) -> UNet2DConditionModel:
    """diffusers' UNet with LoRAs merged into its weights."""
    places = {place for layers, _ in loras for place in layers}
    return plain(
        family,
        {
            f"{place}.weight": merged(
                family.unet.get_parameter(f"{place}.weight"),
                [(layers[place], scale) for layers, scale in loras if place in layers],
            )
            for place in places
        },
    )


def on_device(layers: Mapping[str, LowRank]) -> LoraAdapter:
    return LoraAdapter(
        {place: LowRank(each.down.float(), each.up.float(), each.alpha) for place, each in layers.items()}
    )


def test_loras_of_unlike_rank_on_unlike_rows_equal_merged_weights(
    pocket_family: Family, loras: dict[str, Mapping[str, LowRank]]
) -> None:
    adapters = {name: on_device(layers) for name, layers in loras.items()}
    mixes: list[dict[str, float]] = [
        {"lcm": 1.0},
        {},
        {"outlines": 0.7},
        {"outlines": -0.4, "offset": 0.5, "lcm": 0.3},
        {"offset": 1.0},
    ]
    samples = [
        sample(at, row(pocket_family, at, loras=tuple(RowLora(adapters[name], mix[name]) for name in mix)))
        for at, mix in enumerate(mixes)
    ]
    found = predict(pocket_family, samples)
    bare = plain(pocket_family)
    for each, mix, answer in zip(samples, mixes, found, strict=True):
        wanted = alone(
            pocket_family, changed(pocket_family, [(loras[name], scale) for name, scale in mix.items()]), each
        )
        torch.testing.assert_close(answer, wanted, atol=1e-4, rtol=0)
        assert bool(mix) == bool((answer - alone(pocket_family, bare, each)).abs().max() > 1e-3)


@pytest.mark.parametrize("kind", [LoraLinear, LoraConv])
def test_both_kinds_of_layers_are_changed_by_the_files_of_the_test(
    pocket_family: Family, loras: dict[str, Mapping[str, LowRank]], kind: type[torch.nn.Module]
) -> None:
    ranks = {
        name: {
            len(layer.down)
            for place, layer in layers.items()
            if isinstance(pocket_family.unet.get_submodule(place), kind)
        }
        for name, layers in loras.items()
    }
    assert 16 in ranks["lcm"]
    assert 8 in ranks["outlines"]


# -- keys and values of the text, which are kept between calls


@torch.inference_mode()
def predict_with(family: Family, gatherer: Gatherer, samples: Sequence[Sample], unet: Any = None) -> Tensor:
    """As `predict` does, with a gatherer that may know the rows."""
    return UNetRunner(family.rows).run(gatherer.gather(family.unet if unet is None else unet, samples))


def moved(samples: Sequence[Sample], **carried: Any) -> list[Sample]:
    """A later step of the same rows."""
    return [
        replace(each, x=each.x * 0.7, sigma=0.9, timestep=250, row=replace(each.row, **carried)) for each in samples
    ]


def test_later_calls_of_the_same_rows_project_their_text_no_more_and_answer_as_others_do(
    pocket_family: Family,
) -> None:
    gatherer, projected = Gatherer(CPU), list[str]()
    samples = [sample(1, row(pocket_family, 1)), sample(2, row(pocket_family, 2, chunks=2))]
    given = [samples, moved(samples), moved(moved(samples))]
    wanted = [predict(pocket_family, each) for each in given]
    layers = {
        name: module
        for name, module in pocket_family.unet.named_modules()
        if name.endswith(("attn2.to_k", "attn2.to_v"))
    }
    hooks = [
        module.register_forward_hook(lambda *_, name=name: projected.append(name))  # type: ignore[misc]
        for name, module in layers.items()
    ]
    found = [predict_with(pocket_family, gatherer, each) for each in given]
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert sorted(projected) == sorted(layers)


def test_what_is_kept_of_the_text_is_not_what_a_lora_makes_of_it(
    pocket_family: Family, loras: dict[str, Mapping[str, LowRank]]
) -> None:
    gatherer, adapter = Gatherer(CPU), on_device(loras["lcm"])
    assert any(place.endswith("attn2.to_k") for place in adapter.layers)
    samples = [sample(seed, row(pocket_family, seed)) for seed in (1, 2)]
    for carried in ((), (RowLora(adapter, 1.0),), (), (RowLora(adapter, 0.5),)):
        given = moved(samples, loras=carried)
        found = predict_with(pocket_family, gatherer, given)
        torch.testing.assert_close(found, predict(pocket_family, given), atol=1e-6, rtol=0)


def test_what_is_kept_of_the_text_is_of_one_network(
    pocket_family: Family, loras: dict[str, Mapping[str, LowRank]]
) -> None:
    merged_in = changed(pocket_family, [(loras["lcm"], 1.0)])
    other = copy.deepcopy(pocket_family.unet)
    other.load_state_dict(merged_in.state_dict())
    for name, module in other.named_modules():
        if getattr(module, "is_cross_attention", False):
            module.set_processor(ImagePromptAttention(pocket_family.rows, name))
    gatherer = Gatherer(CPU)
    each = sample(1, row(pocket_family, 1))
    for unet, wanted in ((pocket_family.unet, plain(pocket_family)), (other, merged_in)) * 2:
        (found,) = predict_with(pocket_family, gatherer, [each], unet)
        torch.testing.assert_close(found, alone(pocket_family, wanted, each), atol=1e-5, rtol=0)


# -- what is not there


def operations(family: Family, unet: UNet2DConditionModel, samples: Sequence[Sample]) -> Counter[str]:
    with torch.inference_mode():
        call = replace(gather(family, samples), unet=unet)
        with Operations() as counting:
            UNetRunner(family.rows).run(call)
    return counting.counted


def test_features_that_no_row_uses_cost_no_operation(pocket_family: Family) -> None:
    samples = [sample(seed, row(pocket_family, seed)) for seed in (1, 2)]
    bare = plain(pocket_family)
    ours, theirs = (operations(pocket_family, unet, samples) for unet in (pocket_family.unet, bare))
    assert ours.total() <= theirs.total()
    nothing = RowContext()
    for place, attention in bare.named_modules():
        if getattr(attention, "is_cross_attention", False):
            attention.set_processor(ImagePromptAttention(nothing, place))  # type: ignore[operator]
    assert ours == operations(pocket_family, bare, samples)


@pytest.mark.parametrize("feature", ["head", "images", "loras"])
def test_features_that_a_row_uses_cost_operations_where_they_act(
    pocket_family: Family, adapter: ImageAdapter, loras: dict[str, Mapping[str, LowRank]], feature: str
) -> None:
    """So that what the test above counts can be seen."""
    every: dict[str, tuple[Any, int]] = {
        "head": (noise(3, 32, 16, 16), 1),
        "images": ((ImagePrompt(adapter, noise(20, 16, 160), 0.5),), len(adapter.projections)),
        "loras": ((RowLora(on_device(loras["offset"]), 0.5),), len(loras["offset"])),
    }
    value, places = every[feature]
    used, unused = (
        operations(pocket_family, pocket_family.unet, [sample(1, row(pocket_family, 1, **carried))])
        for carried in ({feature: value}, {})
    )
    adding = "aten.baddbmm.default" if feature == "loras" else "aten.add.Tensor"
    assert used[adding] == unused[adding] + places


# -- their installation


def test_layers_that_are_installed_keep_the_names_and_objects_of_parameters(pocket_family: Family) -> None:
    unet = copy.deepcopy(plain(pocket_family))
    before = dict(unet.named_parameters())
    install_layers(unet)
    after = dict(unet.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


@pytest.mark.parametrize("oddity", ["norm_cross", "residual_connection"])
def test_attentions_that_sdxl_does_not_have_are_refused(pocket_family: Family, oddity: str) -> None:
    unet: Any = copy.deepcopy(plain(pocket_family))
    setattr(unet.mid_block.attentions[0].transformer_blocks[0].attn2, oddity, True)
    with pytest.raises(ValueError, match="mid_block"):
        install_layers(unet)


def test_the_context_is_empty_again_after_a_call_and_after_one_that_fails(pocket_family: Family) -> None:
    headed = [sample(1, row(pocket_family, 1, head=noise(3, 32, 16, 16)))]
    predict(pocket_family, headed)
    assert pocket_family.rows.features.head is None
    with pytest.raises(RuntimeError):
        predict(pocket_family, [replace(headed[0], row=replace(headed[0].row, head=noise(3, 5, 16, 16)))])
    assert pocket_family.rows.features.head is None

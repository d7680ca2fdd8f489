"""Gathering: what makes calls alike, how they are rounded up, and what is copied to the device for each."""

import copy
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.conditioning import Conditioning
from pipelines.unet.branches import LoraAdapter, LoraSet, RowLora, StackedSets, set_bytes, stacked_bytes
from pipelines.unet.gathering import Gatherer, Sample, UNetCall
from pipelines.unet.rows import ControlBranch, ImageAdapter, ImagePrompt, Row
from pipelines.weights.control_lora import build_control
from pipelines.weights.family import Family
from pipelines.weights.lora.changes import LowRank
from tests.pipelines.unet.calling import CPU, SHAPE, TRUE, conditioning, gather, guide, noise, row, run, sample

QUERY = "down_blocks.2.attentions.0.transformer_blocks.0.attn2.to_q"
KEY = "down_blocks.2.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture(scope="module")
def features(pocket_family: Family) -> dict[str, dict[str, Any]]:
    """Of each feature what a row carries that has it, and another of the same feature."""
    network = build_control(pocket_family.unet, pocket_family.catalogue.part("canny"))
    adapter = ImageAdapter({})
    lora = LoraAdapter({QUERY: LowRank(noise(1, 4, 128), noise(2, 128, 4))})
    return {
        "controls": {"controls": (ControlBranch(network, noise(3, 32, 16, 16), 1.0),)},
        "head": {"head": noise(4, 32, 16, 16)},
        "images": {"images": (ImagePrompt(adapter, noise(5, 16, 160), 0.5),)},
        "loras": {"loras": (RowLora(lora, 0.5),)},
    }


def other_values(feature: dict[str, Any]) -> dict[str, Any]:
    """The same feature with other numbers."""
    ((name, value),) = feature.items()
    match value:
        case (ControlBranch() as branch,):
            return {name: (replace(branch, hint=branch.hint + 1, weight=0.3),)}
        case (ImagePrompt() as prompt,):
            return {name: (replace(prompt, tokens=prompt.tokens + 1, scale=0.7),)}
        case (RowLora() as lora,):
            return {name: (replace(lora, scale=0.7),)}
    return {name: value + 1}


def samples(family: Family, *carried: dict[str, Any], seed: int = 1, **all_carry: Any) -> list[Sample]:
    return [sample(seed + at, row(family, 7 * seed + at, **all_carry, **each)) for at, each in enumerate(carried)]


@pytest.mark.parametrize("feature", ["none", "controls", "head", "images", "loras"])
def test_calls_that_differ_in_values_alone_have_one_signature(
    pocket_family: Family, features: dict[str, dict[str, Any]], feature: str
) -> None:
    used = features.get(feature, {})
    one = gather(pocket_family, samples(pocket_family, used, {}))
    other = gather(pocket_family, samples(pocket_family, {}, other_values(used) if used else {}, seed=30))
    assert one.signature == other.signature
    assert hash(one.signature) == hash(other.signature)


@pytest.mark.parametrize("feature", ["controls", "head", "images", "loras"])
def test_a_feature_that_any_row_uses_is_in_the_signature(
    pocket_family: Family, features: dict[str, dict[str, Any]], feature: str
) -> None:
    plain, used = (gather(pocket_family, samples(pocket_family, {}, each)) for each in ({}, features[feature]))
    assert plain.signature != used.signature


def test_counts_of_rows_and_tokens_and_the_size_are_in_the_signature(pocket_family: Family) -> None:
    signatures = [
        gather(
            pocket_family, [sample(at, row(pocket_family, at, chunks=chunks), shape) for at in range(rows)]
        ).signature
        for rows, chunks, shape in ((1, 1, SHAPE), (2, 1, SHAPE), (1, 2, SHAPE), (1, 1, (4, 16, 24)))
    ]
    assert len(set(signatures)) == 4


def test_a_row_that_lacks_a_feature_carries_neutral_values_of_it(
    pocket_family: Family, features: dict[str, dict[str, Any]]
) -> None:
    every: dict[str, Any] = {name: value for feature in features.values() for name, value in feature.items()}
    call = gather(pocket_family, samples(pocket_family, {}, every, {}))
    (control,), (image,), loras = call.controls, call.features.images, call.features.loras
    assert loras is not None
    assert call.features.head is not None
    assert control.places.tolist() == [1]
    assert image.scales.flatten().tolist() == [0.0, 0.5, 0.0]
    assert loras.rows is not None
    assert (loras.rows.tolist(), loras.sets.tolist()) == ([1], [0])
    assert [each.tolist() for each in loras.strengths] == [[[0.5] * 4]]
    for tensor in (call.features.head, image.tokens):
        assert [bool(each.any()) for each in tensor] == [False, True, False]


def test_a_row_may_have_several_of_a_feature_and_two_rows_may_share_one(
    pocket_family: Family, features: dict[str, dict[str, Any]]
) -> None:
    """As few columns as hold them: pictures of one adapter beside each other, LoRAs of each row behind one another."""
    (prompt,), (lora,) = features["images"]["images"], features["loras"]["loras"]
    foreign = replace(prompt, adapter=ImageAdapter({}), scale=0.25)
    wide = RowLora(LoraAdapter({QUERY: LowRank(noise(1, 8, 128), noise(2, 128, 8), alpha=4.0)}), 2.0)
    call = gather(
        pocket_family,
        samples(
            pocket_family,
            {"images": (prompt, replace(prompt, scale=0.75)), "loras": (lora, replace(lora, scale=0.25))},
            {"images": (foreign, prompt), "loras": (wide, lora)},
        ),
    )
    assert [each.scales.flatten().tolist() for each in call.features.images] == [[0.5, 0.5], [0.75, 0], [0, 0.25]]
    assert call.features.loras is not None
    change = call.features.loras.change_of(QUERY)
    assert change is not None
    assert change.rows is None
    assert (change.down.shape, change.up.shape) == ((2, 12, 128), (2, 128, 12))
    assert change.strengths[0].tolist() == [0.75] * 4 + [0.0] * 8
    assert sorted(change.strengths[1].tolist()) == [0.5] * 4 + [2.0] * 8
    behind = 4 if change.strengths[1, 0] == 0.5 else 0  # which of its two comes first is not said
    torch.testing.assert_close(change.down[1, behind : behind + 8], noise(1, 8, 128) * 4.0 / 8)


def test_the_arguments_are_those_of_the_samples(pocket_family: Family) -> None:
    given = samples(pocket_family, {}, {})
    call = Gatherer(CPU).gather(pocket_family.unet, given, [[1.0, 2.0], [3.0]])
    assert call.timesteps.tolist() == [each.timestep for each in given]
    for at, each in enumerate(given):
        torch.testing.assert_close(call.x[at], each.x / (each.sigma**2 + 1) ** 0.5)
        assert torch.equal(call.text.context[at], each.row.text.context)
        assert torch.equal(call.text.pooled[at], each.row.text.pooled)
        assert torch.equal(call.size_ids[at], each.row.size_ids)
    assert call.text.mask is None
    assert [column.tolist() for column in call.numbers] == [[1, 2], [3]]


def test_shorter_prompts_are_padded_and_hidden(pocket_family: Family) -> None:
    call = gather(
        pocket_family, [sample(at, row(pocket_family, at, chunks=chunks)) for at, chunks in enumerate((2, 1))]
    )
    assert call.text.mask is not None
    assert call.text.mask.tolist() == [[1] * 154, [1] * 77 + [0] * 77]
    assert not call.text.context[1, 77:].any()


@pytest.mark.parametrize(
    ("rows", "rounded"),
    [(1, 1), (2, 2), (3, 4), (4, 4), (5, 6), (6, 6), (7, 8), (8, 8), (9, 12), (12, 12), (13, 16), (16, 16), (17, 17)],
)
def test_rows_are_rounded_up_for_calls_that_are_compiled(pocket_family: Family, rows: int, rounded: int) -> None:
    given = [sample(at, row(pocket_family, 1)) for at in range(rows)]
    assert len(gather(pocket_family, given, rounded=True).x) == rounded
    assert len(gather(pocket_family, given).x) == rows


@pytest.mark.parametrize(
    ("chunks", "rounded"), [(1, 1), (3, 3), (5, 6), (9, 12), (13, 16), (17, 24), (33, 48), (64, 64)]
)
def test_tokens_are_rounded_up_for_calls_that_are_compiled(pocket_family: Family, chunks: int, rounded: int) -> None:
    given = [sample(1, row(pocket_family, 1, chunks=chunks))]
    found = gather(pocket_family, given, rounded=True).text
    assert found.context.shape[1] == 77 * rounded
    assert found.mask is not None  # so that whether any is padded does not matter
    assert found.mask.sum() == 77 * chunks
    assert gather(pocket_family, given).text.context.shape[1] == 77 * chunks


def test_rounded_calls_of_unlike_counts_have_one_signature(pocket_family: Family) -> None:
    def signature(rows: int, *chunks: int) -> Any:
        carried = [row(pocket_family, at, chunks=chunks[at % len(chunks)]) for at in range(rows)]
        return gather(pocket_family, [sample(at, each) for at, each in enumerate(carried)], rounded=True).signature

    assert signature(5, 5) == signature(6, 6, 1)


@pytest.mark.parametrize("guided", [False, True])
def test_rounded_calls_answer_as_others_do(pocket_family: Family, guided: bool) -> None:
    asks = [
        guide(pocket_family, 10 * at, chunks=1 + 4 * (at % 2), negative=guided and at > 0, scale=3.0).evaluate(
            noise(at, *SHAPE), 1.6, 499
        )
        for at in range(5)
    ]
    wanted, found = (run(pocket_family, asks, rounded=rounded) for rounded in (False, True))
    assert len(found) == len(wanted) == 5
    torch.testing.assert_close(torch.stack([*found]), torch.stack([*wanted]), atol=1e-4, rtol=0)


class Counting:
    """The CPU, which counts what is uploaded."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.uploaded: list[Tensor] = []

    def upload(self, tensor: Tensor) -> Tensor:
        self.uploaded.append(tensor)
        return tensor

    def download(self, tensor: Tensor) -> Any:
        raise AssertionError("gathering reads nothing back")


def test_a_call_of_known_rows_is_one_copy_to_the_device_and_stacks_nothing_anew(
    pocket_family: Family, features: dict[str, dict[str, Any]]
) -> None:
    every: dict[str, Any] = {name: value for feature in features.values() for name, value in feature.items()}
    given = samples(pocket_family, {}, every)
    device = Counting()
    gatherer = Gatherer(device)
    rows: Sequence[Row] = [given[0].row, replace(given[1].row, text=conditioning(pocket_family, 1, 2))]
    calls: list[UNetCall] = []
    for step in range(3):
        device.uploaded.clear()
        stepped = [
            replace(each, x=each.x + step, sigma=3.0 - step, row=row) for each, row in zip(given, rows, strict=True)
        ]
        calls.append(gatherer.gather(pocket_family.unet, stepped, [[1.0, 2.0]]))
        rows = [replace(row) for row in rows]  # a guide makes a row anew for each evaluation
    assert len(device.uploaded) == 1
    first, _, third = calls
    assert third.text is first.text
    assert third.size_ids is first.size_ids
    assert third.features.head is first.features.head
    assert third.features.images[0].tokens is first.features.images[0].tokens
    assert third.controls[0].hints is first.controls[0].hints
    assert third.features.loras is not None
    assert first.features.loras is not None
    assert third.features.loras.stacked is first.features.loras.stacked
    torch.testing.assert_close(third.x, torch.stack([each.x + 2 for each in given]) / 2**0.5)


def test_adapters_are_one_copy_to_the_device_however_many_layers_they_change() -> None:
    layers = {QUERY: LowRank(noise(1, 4, 128), noise(2, 128, 4)), KEY: LowRank(noise(3, 2, 160), noise(4, 128, 2))}
    both, one = LoraAdapter(layers), LoraAdapter({KEY: LowRank(noise(5, 3, 160), noise(6, 128, 3))})
    device = Counting()
    stacked = StackedSets.stack([(one,), (both,)], torch.float32, device)
    assert len(device.uploaded) == 1
    owners = {place: stacked.patterns[pattern].tolist() for place, (_, _, pattern) in stacked.layers.items()}
    assert owners == {KEY: [[0, 0, 0], [1, 1, 2]], QUERY: [[2] * 4, [1] * 4]}  # 2: of none


def test_what_sets_take_stacked_is_known_before(pocket_family: Family) -> None:
    def adapter(*layers: tuple[str, int, int, int]) -> LoraAdapter:
        return LoraAdapter({at: LowRank(noise(1, rank, i), noise(2, o, rank)) for at, rank, i, o in layers})

    narrow, wide = adapter((QUERY, 4, 128, 128)), adapter((QUERY, 6, 128, 128), (KEY, 2, 160, 128))
    alike: list[LoraSet] = [(narrow,), (adapter((QUERY, 4, 128, 128)),)]
    unlike: list[LoraSet] = [(narrow,), (wide, narrow)]
    for sets, exact in ((alike, True), (unlike, False)):
        stacked = StackedSets.stack(sets, torch.float32, CPU)
        held = sum(each.nbytes for each in stacked.weights.parameters())
        assert held == stacked_bytes(sets) if exact else held <= stacked_bytes(sets)
        stacked = StackedSets.stack(sets, torch.float32, CPU, rounded=True)
        held = sum(each.nbytes for each in stacked.weights.parameters())
        assert held <= stacked_bytes(sets, rounded=True)
    for rounded in (False, True):
        stacked = StackedSets.stack([(wide, narrow)], torch.float32, CPU, rounded=rounded)
        held = sum(each.nbytes for each in stacked.weights.parameters())
        assert held == set_bytes((wide, narrow), rounded=rounded)


def test_rounded_calls_of_unlike_sets_have_one_signature(pocket_family: Family) -> None:
    """Whichever rows carry which, and of any ranks up to the same round one."""
    adapters = [LoraAdapter({QUERY: LowRank(noise(at, at, 128), noise(9, 128, at))}) for at in (5, 6, 7, 8)]
    mixes: list[list[int | None]] = [[0, 1, 2, 2], [3, None, 1, 0], [2, 0, 1, 1]]
    signatures = {
        gather(
            pocket_family,
            [
                sample(
                    at,
                    row(pocket_family, at, loras=() if which is None else (RowLora(adapters[which], 0.1 * at),)),
                )
                for at, which in enumerate(mix)
            ],
            rounded=True,
        ).signature
        for mix in mixes
    }
    assert len(signatures) == 1


def test_a_row_without_loras_is_untouched_by_a_neighbour_whose_loras_overflow(pocket_family: Family) -> None:
    """In rounded calls every row has a set; so nothing may come of it where its scales are 0."""
    broken = RowLora(LoraAdapter({QUERY: LowRank(noise(1, 4, 128) * 1e38, noise(2, 128, 4) * 1e38)}), 1.0)
    asks = [
        guide(pocket_family, at, loras=loras).evaluate(noise(at, *SHAPE), 1.6, 499)
        for at, loras in enumerate([(broken,), ()])
    ]
    alone, (_, found) = run(pocket_family, asks[1:]), run(pocket_family, asks, rounded=True)
    torch.testing.assert_close(found, alone[0], atol=1e-4, rtol=0)


def test_loras_that_do_not_fit_together_are_called_apart(pocket_family: Family) -> None:
    loras = [
        RowLora(LoraAdapter({QUERY: LowRank(noise(seed, 4, 128), noise(seed + 1, 128, 4))}), 1.0) for seed in range(3)
    ]
    rows = [row(pocket_family, at, loras=(lora,)) for at, lora in enumerate(loras)]
    both = Gatherer(CPU, branch_bytes=2 * 4 * 256 * 4)
    assert both.holds(rows[:2])
    assert both.holds([*rows[:2], *rows[:2], row(pocket_family, 9)])
    assert not both.holds(rows)
    assert Gatherer(CPU, branch_bytes=0).holds(rows[:1])  # which were found to be small enough alone


def kept_of(gatherer: Gatherer, family: Family, texts: Sequence[Conditioning]) -> list[int]:
    """Which of some texts stay stacked after a call of each in turn."""
    each = [Sample(noise(1, *SHAPE), 1.0, 1, Row(text, TRUE)) for text in texts]
    stacked = [weakref.ref(gatherer.gather(family.unet, [one]).text.context) for one in each]
    return [at for at, context in enumerate(stacked) if context() is not None]


def test_of_what_is_kept_stacked_the_last_stays_within_a_budget_of_bytes(
    pocket_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = ([conditioning(pocket_family, seed, chunks) for seed in range(12)] for chunks in (1, 4))
    held = 2 * sum(tensor.nbytes for tensor in (large[0].context, large[0].pooled))  # what is stacked, and its stack
    monkeypatch.setattr("pipelines.unet.gathering.BUDGET_BYTES", (3 * held, 0))
    assert kept_of(Gatherer(CPU), pocket_family, large) == [9, 10, 11]
    assert kept_of(Gatherer(CPU), pocket_family, small) == [*range(4, 12)]
    monkeypatch.setattr("pipelines.unet.gathering.BUDGET_BYTES", (0, 0))
    assert kept_of(Gatherer(CPU), pocket_family, large) == [11]


def test_what_the_layers_made_of_a_text_counts_as_kept(pocket_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.unet.gathering.BUDGET_BYTES", (2**20, 0))
    gatherer = Gatherer(CPU)
    call = gatherer.gather(pocket_family.unet, samples(pocket_family, {}))
    assert call.features.projected is not None
    call.features.projected["attention"] = torch.zeros(2**18), torch.zeros(1)
    before = weakref.ref(call.text)
    del call
    gatherer.gather(pocket_family.unet, samples(pocket_family, {}, seed=2))
    assert before() is None


def test_what_is_stacked_in_one_dtype_is_not_taken_for_another(pocket_family: Family) -> None:
    gatherer, given = Gatherer(CPU), samples(pocket_family, {}, head=noise(4, 32, 16, 16))
    for dtype in (torch.float32, torch.bfloat16):
        unet: Any = copy.deepcopy(pocket_family.unet)
        call = gatherer.gather(unet.to(dtype), given)
        assert call.features.head is not None
        assert {call.text.context.dtype, call.text.pooled.dtype, call.features.head.dtype} == {dtype}


def test_what_is_kept_stacked_is_never_taken_for_what_another_group_needs(pocket_family: Family) -> None:
    """Though memory of things that are gone is used again for their likes."""
    gatherer = Gatherer(CPU)
    for seed in range(60):
        text = Conditioning(torch.full((77, 160), float(seed)), torch.full((96,), float(seed)))
        call = gatherer.gather(
            pocket_family.unet, [Sample(noise(1, *SHAPE), 1.0, 1, Row(text, torch.full((6,), seed)))]
        )
        assert float(call.text.context[0, 0, 0]) == float(call.text.pooled[0, 0]) == float(call.size_ids[0, 0]) == seed


@pytest.mark.parametrize(
    ("cap", "rounded", "most"), [(5, True, 4), (8, True, 8), (13, True, 12), (20, True, 20), (5, False, 5)]
)
def test_a_call_is_not_rounded_up_beyond_its_cap(cap: int, rounded: bool, most: int) -> None:
    assert Gatherer(CPU, rounded=rounded).most_rows(cap) == most

"""What tokens cost: the arithmetic against torch's counter, and the calls that it keeps apart."""

import copy
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.sdxl import UNET
from pipelines.engine.engine import Engine
from pipelines.engine.tasks import Routine, ask
from pipelines.row_steps import LATENT_UNIT
from pipelines.unet.gathering import Gatherer
from pipelines.unet.guide import Evaluate
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.runner import UNetRunner
from pipelines.unet.stage import EvaluationStage
from pipelines.unet.token_cost import TokenCost
from pipelines.weights.family import Family
from tests.pipelines.engine.fakes import submit
from tests.pipelines.unet.calling import CPU, SHAPE, guide, noise, run

LARGE = 128 * 128  # pixels of the latent of 1024 x 1024
HALF = 64 * 64


@pytest.fixture(scope="module")
def sdxl() -> UNet2DConditionModel:
    """At full size, without memory."""
    with torch.device("meta"):
        return UNet2DConditionModel(**UNET)


def counted(unet: UNet2DConditionModel, height: int, width: int, tokens: int) -> int:
    """FLOPs of one row as torch counts them: on meta tensors, for on the CPU it leaves its attention out."""
    config: Any = unet.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        unet(
            torch.zeros(1, 4, height, width),
            torch.zeros(1),
            encoder_hidden_states=torch.zeros(1, tokens, config.cross_attention_dim),
            added_cond_kwargs={"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, 6)},
        )
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("height", "width", "tokens"), [(16, 16, 77), (32, 24, 154), (64, 64, 77), (16, 16, 4928), (64, 64, 4928)]
)
def test_a_rows_arithmetic_is_what_torch_counts(pocket_family: Family, height: int, width: int, tokens: int) -> None:
    unet = copy.deepcopy(pocket_family.unet).to("meta")
    found = TokenCost(pocket_family.unet, CPU.device).row(height * width, tokens)
    assert found == pytest.approx(counted(unet, height, width, tokens), rel=0.01)


@pytest.mark.parametrize(("height", "width", "tokens"), [(128, 128, 77), (72, 56, 4928)])
def test_a_rows_arithmetic_is_what_torch_counts_of_sdxl(
    sdxl: UNet2DConditionModel, height: int, width: int, tokens: int
) -> None:
    """Takes some seconds each: 2,000 operations, each of them counted in Python."""
    found = TokenCost(sdxl, torch.device("cuda")).row(height * width, tokens)
    assert found == pytest.approx(counted(sdxl, height, width, tokens), rel=0.01)


@pytest.mark.parametrize(
    ("pixels", "chunks", "shared"),
    [
        (LARGE, [1, 2], True),
        (HALF, [1, 2], True),
        (LARGE, [1] * 15 + [64], False),
        (HALF, [1] * 15 + [64], False),
        (LARGE, [1] * 8 + [64] * 8, False),
        (LARGE, [1] * 15 + [2], True),
        (LARGE, [64] * 16, True),
        (LARGE, [63] + [64] * 15, True),
    ],
    ids=str,
)
def test_prompts_of_sdxl_share_a_call_where_that_costs_it_under_a_twentieth(
    sdxl: UNet2DConditionModel, pixels: int, chunks: list[int], shared: bool
) -> None:
    assert TokenCost(sdxl, torch.device("cuda")).worth_sharing(pixels, [77 * each for each in chunks]) == shared


@pytest.mark.parametrize("pixels", [LARGE, HALF, 1024])
@pytest.mark.parametrize("short", [1, 3, 7, 15])
def test_a_call_is_shared_as_long_as_its_padding_costs_a_twentieth_at_the_most(
    sdxl: UNet2DConditionModel, pixels: int, short: int
) -> None:
    """On a GPU, where the 2,000 launches of a call take the time of 4e12 FLOPs."""
    cost = TokenCost(sdxl, torch.device("cuda"))
    for chunks in range(2, 65):
        lengths = [77] * short + [77 * chunks]
        apart = 2 * 4e12 + short * cost.row(pixels, 77) + cost.row(pixels, 77 * chunks)
        together = 4e12 + (short + 1) * cost.row(pixels, 77 * chunks)
        assert cost.worth_sharing(pixels, lengths) == (together <= 1.05 * apart)


@pytest.fixture
def engine(pocket_family: Family) -> Iterator[Engine]:
    stage = EvaluationStage(
        UNetRunner(pocket_family.rows), Gatherer(CPU), RowCaps(16), TokenCost(pocket_family.unet, CPU.device)
    )
    engine = Engine([stage], counted=EvaluationStage.name)
    yield engine
    engine.close()


def evaluated(engine: Engine, asks: Sequence[Evaluate]) -> list[Tensor]:
    """What jobs are answered that ask at once."""
    go, begun = threading.Event(), threading.Event()

    def hold() -> Routine[None]:
        begun.set()
        assert go.wait(20)
        yield from ()

    submit(engine, "hold", hold)
    assert begun.wait(20)
    listeners = [submit(engine, str(at), lambda each=each: ask(each)) for at, each in enumerate(asks)]  # type: ignore[misc]
    go.set()
    return [listener.last()[0] for listener in listeners]


def asks_of(family: Family, *chunks: int) -> list[Evaluate]:
    return [
        guide(family, 3 * seed, chunks=each).evaluate(noise(seed, *SHAPE), 1.6, 499) for seed, each in enumerate(chunks)
    ]


def test_a_full_call_leaves_a_prompt_of_another_length_by_far_to_the_next(
    pocket_family: Family, engine: Engine
) -> None:
    asks = asks_of(pocket_family, *[1] * 7, 64, *[1] * 8)
    found = evaluated(engine, asks)
    stats = engine.stats()
    assert (stats.unet_calls, stats.unet_rows, stats.largest_call) == (2, 16, 15)
    assert stats.unet_row_steps == 16 * SHAPE[-2] * SHAPE[-1] / LATENT_UNIT
    assert stats.busy_s > 0
    for asked, answer in zip(asks, found, strict=True):
        torch.testing.assert_close(answer, run(pocket_family, [asked])[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("chunks", [[1] * 16, [1, 2], [64] * 2], ids=str)
def test_prompts_of_nearly_one_length_share_a_call(pocket_family: Family, engine: Engine, chunks: list[int]) -> None:
    evaluated(engine, asks_of(pocket_family, *chunks))
    assert (engine.stats().unet_calls, engine.stats().largest_call) == (1, len(chunks))

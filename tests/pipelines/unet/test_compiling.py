"""Compiled calls: equal to eager ones for every kind of row, one body for all bases, and nobody waits for them."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from pipelines.unet.branches import LoraAdapter, RowLora
from pipelines.unet.compiling import CompiledBody
from pipelines.unet.gathering import UNetCall
from pipelines.unet.layers import ImagePromptAttention
from pipelines.unet.rows import ControlBranch, ImageAdapter, ImagePrompt, Row
from pipelines.unet.runner import UNetRunner, run_eagerly
from pipelines.weights.bases import clone_sharing_parameters
from pipelines.weights.control_lora import build_control
from pipelines.weights.family import Family
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.reading import read_lora
from tests.pipelines.unet.calling import gather, noise, row, sample

TOLERANCE = 1e-4
QUICK = ("a longer prompt",)


def controlled(family: Family) -> Row:
    network = build_control(family.unet, family.catalogue.part("canny"))
    return row(family, 1, controls=(ControlBranch(network, noise(4, 32, 16, 16), 0.7),))


def headed(family: Family) -> Row:
    return row(family, 1, head=noise(4, family.unet.conv_in.out_channels, 16, 16))


def shown(family: Family) -> Row:
    places = {
        name: module
        for name, module in family.unet.named_modules()
        if isinstance(getattr(module, "processor", None), ImagePromptAttention)
    }
    adapter = ImageAdapter({name: (module.to_k.weight, module.to_v.weight) for name, module in places.items()})
    width = family.unet.config["cross_attention_dim"]
    return row(family, 1, images=(ImagePrompt(adapter, noise(5, 16, width), 0.6),))


def changed(family: Family) -> Row:
    file = read_lora(family.catalogue.lora("sdxl_lcm_lora.safetensors"))  # type: ignore[arg-type]  # the family has it
    layers = Targets(family.unet, family.text_encoders).match(file).layers
    adapter = LoraAdapter(
        {name.removesuffix(".weight"): layer for (part, name), layer in layers.items() if part == "unet"}
    )
    return row(family, 1, loras=(RowLora(adapter, 0.8),))


KINDS: Mapping[str, Callable[[Family], Row]] = MappingProxyType(
    {
        "plain": lambda family: row(family, 1),
        "a longer prompt": lambda family: row(family, 1, chunks=3),
        "control": controlled,
        "head": headed,
        "image": shown,
        "lora": changed,
    }
)


def call_of(family: Family, kind: str) -> UNetCall:
    """A row of a kind beside a plain one."""
    return gather(family, [sample(1, KINDS[kind](family)), sample(2, row(family, 2))], rounded=True)


@pytest.fixture
def bodies(pocket_family: Family) -> Iterator[Callable[..., CompiledBody]]:
    made: list[CompiledBody] = []

    def make(mode: str, backend: object = "aot_eager") -> CompiledBody:
        made.append(CompiledBody(pocket_family.rows, mode, backend))  # type: ignore[arg-type]  # as torch.compile takes
        return made[-1]

    yield make
    for body in made:
        body.close()
    torch._dynamo.reset()


def held_to_eager(family: Family, body: CompiledBody, call: UNetCall) -> None:
    runner = UNetRunner(family.rows, body)
    with torch.inference_mode():
        wanted = UNetRunner(family.rows).run(call)
        torch.testing.assert_close(runner.run(call), wanted, atol=0, rtol=0)  # not compiled yet
        assert body.wait() > 0
        torch.testing.assert_close(runner.run(call), wanted, atol=TOLERANCE, rtol=0)


# each kind takes torch seconds; those that the blocks see least of are among the long tests
@pytest.mark.parametrize(
    "kind", [each if each in QUICK else pytest.param(each, marks=pytest.mark.long) for each in KINDS]
)
def test_compiled_blocks_equal_eager_ones(
    pocket_family: Family, bodies: Callable[..., CompiledBody], kind: str
) -> None:
    held_to_eager(pocket_family, bodies("blocks"), call_of(pocket_family, kind))


@pytest.mark.long  # tracing a whole UNet takes torch some ten seconds for each signature
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_unet_equals_the_eager_one(
    pocket_family: Family, bodies: Callable[..., CompiledBody], kind: str
) -> None:
    held_to_eager(pocket_family, bodies("whole"), call_of(pocket_family, kind))


@pytest.mark.long  # a C++ compiler is at work
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own modules use what it deprecates
def test_blocks_that_inductor_compiles_equal_eager_ones(
    pocket_family: Family, bodies: Callable[..., CompiledBody]
) -> None:
    held_to_eager(pocket_family, bodies("blocks", "inductor"), call_of(pocket_family, "plain"))


def test_all_bases_share_what_is_compiled(pocket_family: Family, bodies: Callable[..., CompiledBody]) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    body = bodies("blocks", counter)
    call = call_of(pocket_family, "plain")
    others = {
        name: nn.Parameter(weight * 1.5, requires_grad=False)
        for name, weight in pocket_family.unet.named_parameters()
        if name.endswith("ff.net.2.weight")
    }
    base = clone_sharing_parameters(pocket_family.unet, others)
    held_to_eager(pocket_family, body, call)
    compiled = counter.frame_count
    assert compiled > 0
    with torch.inference_mode():
        found = UNetRunner(pocket_family.rows, body).run(replace(call, unet=base))
        wanted = UNetRunner(pocket_family.rows).run(replace(call, unet=base))
    torch.testing.assert_close(found, wanted, atol=TOLERANCE, rtol=0)
    assert (wanted - UNetRunner(pocket_family.rows).run(call)).abs().max() > 10 * TOLERANCE
    assert counter.frame_count == compiled


def test_calls_run_as_they_are_while_theirs_is_compiled(
    pocket_family: Family, bodies: Callable[..., CompiledBody]
) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(graph: torch.fx.GraphModule, inputs: object) -> object:
        begun.set()
        assert go.wait(60)
        return graph.forward

    body = bodies("blocks", slow)
    runner, call = UNetRunner(pocket_family.rows, body), call_of(pocket_family, "plain")
    with torch.inference_mode():
        first = runner.run(call)
        assert begun.wait(60)
        assert torch.equal(runner.run(call), first)
    go.set()
    assert body.wait() == 1


def test_what_cannot_be_compiled_runs_as_it_is(pocket_family: Family, bodies: Callable[..., CompiledBody]) -> None:
    def refuse(graph: object, inputs: object) -> object:
        raise RuntimeError("no compiler here")

    body = bodies("blocks", refuse)
    runner, call = UNetRunner(pocket_family.rows, body), call_of(pocket_family, "plain")
    with torch.inference_mode():
        first = runner.run(call)
        assert body.wait() == 0
        assert torch.equal(runner.run(call), first)
        assert torch.equal(first, run_eagerly(call, ()).float())

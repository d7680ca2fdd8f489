"""The weights that pictures are drawn with: whose they are, who holds them, and who waits for them."""

import gc
import queue
import re
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from skimage import data

from pipelines.device import PlainDevice
from pipelines.drawing import Drawer, stages
from pipelines.engine.engine import Engine
from pipelines.errors import InputFault, JobCancelled
from pipelines.events import Drawn, Note
from pipelines.inputs import FoundLora, Hint, Inputs
from pipelines.preparing import find_loras, prepare
from pipelines.spec import Lora, Size, Structure
from pipelines.trajectory import variant_spec
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.stage import EvaluationStage
from pipelines.weights.family import Family
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import Variant, VariantStore
from tests.pipelines.studio import LCM, Studio, last, spec


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


def test_what_of_a_lora_acts_is_noted_before_the_first_step(studio: Studio) -> None:
    lora = Lora(source=LCM[0].source, scale=0.31, field="loras.0.path")
    for name in ("built", "at hand"):
        first = studio.submit(name, spec(steps=1, loras=(lora,))).get(timeout=60)
        assert isinstance(first, Note)
        assert re.fullmatch(r"loras\.0\.path: all \d+ tensors of this LoRA were applied", first.text)


def test_nobody_holds_weights_after_the_job(pocket_family: Family) -> None:
    """Neither the engine, nor the drawer, nor a stage: a store without room lets them go for any others."""
    variants = VariantStore(pocket_family, 0)
    device = PlainDevice(torch.device("cpu"))
    engine = Engine(stages(pocket_family, device, RowCaps(8)), counted=EvaluationStage.name)
    drawer = Drawer(engine, pocket_family, variants, device)
    edges = Structure(kind="PyraCanny", source="", weight=1.0)
    alive: list[weakref.ref[Any]] = []
    wanted = spec(pictures=(edges,), steps=2)
    inputs = prepare(wanted, [data.coffee()], find_loras(wanted, pocket_family.catalogue))
    original = VariantStore.get

    def noted(store: VariantStore, variant_spec: VariantSpec) -> Variant:
        variant = original(store, variant_spec)
        alive.extend(weakref.ref(each) for each in (variant, variant.unet, variant.controls["canny"]))
        return variant

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VariantStore, "get", noted)
        for scale in (0.9, 0.8, 0.7):
            (found,) = inputs.loras
            other = FoundLora(Lora(source=found.lora.source, scale=scale), found.path)
            events: queue.Queue[Any] = queue.Queue()
            drawer.submit("job", wanted, replace(inputs, loras=(other,)), events.put)
            assert isinstance(last(events), Drawn)
            del events
    variants.get(VariantSpec())
    deadline = time.monotonic() + 30  # the engine's thread may still be on its way back to waiting
    while any(ref() is not None for ref in alive) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert [ref() is not None for ref in alive] == [False] * 9
    drawer.close()


def test_a_picture_is_drawn_while_the_weights_of_another_are_built(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.draw(spec())
    begun, go_on = threading.Event(), threading.Event()
    original = studio.variants.get

    def slow(variant_spec: VariantSpec) -> Variant:
        begun.set()
        assert go_on.wait(60)
        return original(variant_spec)

    monkeypatch.setattr(studio.variants, "get", slow)
    waiting = studio.submit("waiting", spec(loras=(Lora(source=LCM[0].source, scale=0.123),)))
    given_up = studio.submit("given up", spec(loras=(Lora(source=LCM[0].source, scale=0.124),)))
    assert begun.wait(60)
    assert isinstance(last(studio.submit("ready", spec())), Drawn)
    assert waiting.empty()
    studio.drawer.cancel("given up")
    go_on.set()
    assert isinstance(last(waiting), Drawn)
    assert isinstance(last(given_up), JobCancelled)


def test_weights_that_cannot_be_built_fail_their_job_alone(studio: Studio, tmp_path: Path) -> None:
    wanted = spec(loras=(Lora(source="x", scale=1.0, field="loras.0.path"),))
    (tmp_path / "x.safetensors").write_bytes(b"no weights")
    events: queue.Queue[Any] = queue.Queue()
    found = FoundLora(wanted.loras[0], tmp_path / "x.safetensors")
    studio.drawer.submit("bad", wanted, prepare(wanted, (), (found,)), events.put)
    fault = last(events)
    assert isinstance(fault, InputFault)
    assert fault.field == "loras.0.path"
    assert studio.draw(spec()).shape == (1, 128, 128, 3)


def test_a_performance_lora_is_of_the_base_and_the_others_of_the_row() -> None:
    """So that requests of one mode have one base, whatever their own LoRAs are."""
    fast, style = Lora(source="fast", scale=1.0, performance=True), Lora(source="style", scale=0.5, field="loras.0")
    off = Structure(kind="PyraCanny", source="", weight=0.0)
    hint = Hint(off, "canny", data.coffee()[:128, :128])
    loras = FoundLora(style, Path("style")), FoundLora(fast, Path("fast"))
    inputs = Inputs(Size(width=128, height=128), structures=(hint,), loras=loras)
    assert variant_spec(inputs) == VariantSpec(
        performance=(LoraRef(Path("fast"), 1.0),), adapters=(LoraRef(Path("style"), 0.5, "loras.0"),), controls=()
    )

"""Merging: how LoRA files reach the device, and how a base that was merged on a stream of its own is waited for."""

import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.weights.bases import Base
from pipelines.weights.family import Family
from pipelines.weights.variant_spec import LoraRef, VariantSpec
from pipelines.weights.variants import VariantStore
from tests.pipelines.studio import Studio, spec
from tests.pipelines.weights import tiny
from tests.pipelines.weights.copies import Copies
from tests.pipelines.weights.test_control_lora import write_control

PLENTY = 2**30


def write_lora(path: Path, seed: int) -> Path:
    """Of every linear layer of the UNet."""
    layers = {
        f"lora_unet_{name.replace('.', '_')}": module.weight
        for name, module in tiny.unet().named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return tiny.write_kohya(path, layers, seed=seed)


def of(*loras: tuple[Path, float], controls: tuple[str, ...] = ()) -> VariantSpec:
    return VariantSpec(adapters=tuple(LoraRef(*lora) for lora in loras), controls=controls)


def test_each_file_goes_to_the_device_in_one_copy(tmp_path: Path) -> None:
    family = tiny.family()
    for model in (family.unet, *family.text_encoders):
        model.to("meta")
    store = VariantStore(family, PLENTY)
    a, b = (write_lora(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 1000))
    with Copies() as copies:
        merged = store.get(of((a, 0.5), (b, 0.3))).unet
    changed = [name for name, tensor in merged.named_parameters() if tensor is not family.unet.get_parameter(name)]
    assert len(changed) > 20
    assert copies.number == 2


def test_what_is_merged_already_is_not_copied_again(tmp_path: Path) -> None:
    family = tiny.family()
    family.unet.to("meta")
    store = VariantStore(family, PLENTY)
    a = write_lora(tmp_path / "a.safetensors", 1)
    b = tiny.write_kohya(tmp_path / "b.safetensors", {"lora_unet_conv_in": torch.zeros(8, 4, 3, 3)})
    held = store.get(of((a, 0.5)))
    with Copies() as copies:
        both = store.get(of((a, 0.5), (b, 1.0)))
    assert copies.number == 1
    assert both.base is not held.base


class Streams:
    """Stands for CUDA's streams: notes what is waited for, and whose memory is held for the one that waits."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[str, int]] = []
        self.held: set[int] = set()
        patch.setattr(torch.cuda, "Stream", lambda _: self)
        patch.setattr(torch.cuda, "current_stream", lambda _=None: self)
        patch.setattr(torch.cuda, "stream", lambda stream: nullcontext() if stream is None else self)
        patch.setattr(Tensor, "record_stream", lambda tensor, _: self.held.add(id(tensor)))

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.told.append(("merged", len(self.told)))

    def wait_stream(self, _: "Streams") -> None:
        self.told.append(("began", len(self.told)))

    def record_event(self) -> int:
        self.told.append(("recorded", len(self.told)))
        return len(self.told) - 1

    def wait_event(self, event: int) -> None:
        self.told.append(("waited", event))


def test_who_uses_a_base_first_waits_for_what_was_merged_on_a_stream_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams(monkeypatch)
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", tiny.unet())})
    store = VariantStore(family, PLENTY, own_stream=True)
    lora = write_lora(tmp_path / "a.safetensors", 1), 0.5
    base = store.get(of(lora)).base
    assert [what for what, _ in streams.told] == ["began", "merged", "recorded"]
    base.ready()
    assert streams.told[3:] == [("waited", 2)]
    own = [tensor for name, tensor in base.unet.named_parameters() if tensor is not family.unet.get_parameter(name)]
    assert streams.held == {id(tensor) for tensor in own}
    base.ready()
    assert len(streams.told) == 4
    network = store.get(of(lora, controls=("canny",))).base.controls["canny"]
    base.ready()
    assert streams.told[4:] == [("merged", 4), ("recorded", 5), ("waited", 5)]
    assert streams.held >= {id(tensor) for tensor in network.parameters()}


def test_without_a_stream_of_its_own_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    store = VariantStore(tiny.family(), PLENTY)
    store.get(of((write_lora(tmp_path / "a.safetensors", 1), 0.5))).base.ready()
    assert streams.told == []


def test_a_job_makes_its_base_ready_on_the_engines_thread(
    pocket_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(Base, "ready", lambda base: made.append((str(base.key), threading.current_thread().name)))
    studio = Studio(pocket_family)
    studio.draw(spec(steps=1))
    assert made == [(studio.variants.names()[-1], "engine")]
    studio.drawer.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_stream_of_its_own_merges_the_same_weights(tmp_path: Path) -> None:
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", tiny.unet())})
    for model in (family.unet, *family.text_encoders):
        model.cuda()
    wanted = of((write_lora(tmp_path / "a.safetensors", 1), 0.5), controls=("canny",))
    plain, beside = (VariantStore(family, PLENTY, own_stream=own).get(wanted).base for own in (False, True))
    beside.ready()
    for ours, theirs in ((plain.unet, beside.unet), (plain.controls["canny"], beside.controls["canny"])):
        for (name, here), there in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert torch.equal(here, there), name

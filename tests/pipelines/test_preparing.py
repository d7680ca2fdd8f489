"""From decoded pictures to the inputs of a drawing."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import InputFault
from pipelines.events import Pixels
from pipelines.images.canny import pyra_canny
from pipelines.images.cpds import cpds
from pipelines.images.resize import cover
from pipelines.preparing import find_loras, prepare
from pipelines.spec import Control, Guidance, Lora, Size, Spec, Start

SQUARE = Size(width=64, height=64)


def spec(**changes: Any) -> Spec:
    base: dict[str, Any] = {
        "seeds": (1,),
        "steps": 1,
        "sampler": "lcm",
        "schedule": "lcm",
        "guidance": Guidance(scale=1.0),
        "size": SQUARE,
    }
    return Spec(**{**base, **changes})


def picture(width: int, height: int, seed: int = 0) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((-(-height // 4), -(-width // 4), 1), np.uint8))[:height, :width]


class Known:
    def lora(self, source: str) -> Path | None:
        return Path("/weights/known.safetensors") if source == "known" else None


def test_text_alone_needs_only_its_size() -> None:
    inputs = prepare(spec(), None, [], [])
    assert inputs.size == SQUARE
    assert inputs.start is None
    assert inputs.hints == ()
    assert inputs.loras == ()


def test_the_start_picture_is_stretched_to_the_size_of_the_spec() -> None:
    inputs = prepare(spec(start=Start(image="x", strength=0.5)), picture(100, 30), [], [])
    assert inputs.start is not None
    assert inputs.start.shape == (64, 64, 3)


def test_without_a_size_the_start_picture_gives_it() -> None:
    inputs = prepare(spec(size=None, start=Start(image="x", strength=0.5)), picture(131, 70), [], [])
    assert inputs.size == Size(width=128, height=64)
    assert inputs.start is not None
    assert inputs.start.shape == (64, 128, 3)


def test_a_start_picture_that_is_too_small_is_the_clients_fault_with_its_field() -> None:
    tiny = spec(size=None, start=Start(image="x", strength=0.5, field="image_url"))
    with pytest.raises(InputFault) as caught:
        prepare(tiny, picture(40, 200), [], [])
    assert (caught.value.type, caught.value.field) == ("image_too_small", "image_url")


def test_controls_are_covered_then_annotated_in_their_order() -> None:
    first, second = picture(90, 50, seed=1), picture(50, 90, seed=2)
    wanted = spec(controls=(Control(kind="canny", image="a"), Control(kind="cpds", image="b")))
    inputs = prepare(wanted, None, [first, second], [])
    assert [hint.shape for hint in inputs.hints] == [(64, 64, 3), (64, 64, 3)]
    assert np.array_equal(inputs.hints[0], pyra_canny(cover(first, SQUARE)))
    assert np.array_equal(inputs.hints[1], cpds(cover(second, SQUARE)))


@pytest.mark.parametrize(
    ("wanted", "start", "controls", "loras"),
    [
        (spec(), picture(64, 64), [], []),
        (spec(start=Start(image="x", strength=1)), None, [], []),
        (spec(controls=(Control(kind="canny", image="a"),)), None, [], []),
        (spec(loras=(Lora(source="known", scale=1),)), None, [], []),
        (spec(size=None), None, [], []),
    ],
)
def test_what_does_not_match_the_spec_is_a_mistake_of_the_caller(
    wanted: Spec, start: Pixels | None, controls: list[Pixels], loras: list[Path]
) -> None:
    with pytest.raises(ValueError, match=r"picture|file"):
        prepare(wanted, start, controls, loras)


def test_known_loras_are_found_in_order() -> None:
    wanted = spec(loras=(Lora(source="known", scale=1), Lora(source="known", scale=0.5)))
    assert find_loras(wanted, Known()) == [Path("/weights/known.safetensors")] * 2


def test_an_unknown_lora_is_refused_with_its_field() -> None:
    wanted = spec(
        loras=(Lora(source="known", scale=1), Lora(source="https://x.example/y", scale=1, field="loras.1.path"))
    )
    with pytest.raises(InputFault) as caught:
        find_loras(wanted, Known())
    assert (caught.value.type, caught.value.field) == ("feature_not_supported", "loras.1.path")


def test_preparing_does_not_import_torch() -> None:
    code = "import sys, pipelines.preparing, pipelines.images.black_out; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

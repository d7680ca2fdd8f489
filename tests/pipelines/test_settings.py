"""How a replica draws: settings that cannot work together end the start with what to do."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.settings import DrawingSettings

NEED_CUDA = "ahead", "merge_on_own_stream"


@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("name", NEED_CUDA)
def test_what_needs_a_cuda_device_is_refused_without_one(name: str, device: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} needs a CUDA device, and device is '{device}': set device to"):
        DrawingSettings.model_validate({"family": Path("pocket"), "device": device, name: True})


def test_all_that_needs_a_cuda_device_is_named_at_once() -> None:
    with pytest.raises(ValidationError, match="ahead and merge_on_own_stream need a CUDA device"):
        DrawingSettings(family=Path("pocket"), ahead=True, merge_on_own_stream=True)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize("name", NEED_CUDA)
def test_what_needs_a_cuda_device_is_taken_with_one(name: str, device: str) -> None:
    settings = DrawingSettings.model_validate({"family": Path("pocket"), "device": device, name: True})
    assert getattr(settings, name)


@pytest.mark.parametrize("device", ["gpu", "GPU", "cuda:", "cuda0", "0", ""])
def test_a_device_that_torch_does_not_know_is_refused_with_what_to_write(device: str) -> None:
    with pytest.raises(ValidationError, match=f"torch knows no device '{device}': write cuda"):
        DrawingSettings.model_validate({"family": Path("pocket"), "device": device})

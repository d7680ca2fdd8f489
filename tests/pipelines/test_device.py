"""How a process computes, as whoever draws sets it."""

from collections.abc import Iterator

import pytest
import torch

from pipelines.device import set_arithmetic


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.get_num_threads()
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
    torch.set_num_threads(before[2])


def test_float32_is_float32_whatever_was_set_before() -> None:
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    set_arithmetic()
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    assert not torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction


def test_attention_never_takes_the_kernel_that_plans_each_shape() -> None:
    set_arithmetic()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()


def test_threads_are_as_asked_or_as_they_were() -> None:
    set_arithmetic(1)
    set_arithmetic()
    assert torch.get_num_threads() == 1

"""Compiled UNet calls: one compiled body for all bases, made beside the engine while calls still run as they are."""

import logging
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from pipelines.unet.gathering import UNetCall
from pipelines.unet.layers import install_layers
from pipelines.unet.rows import RowContext
from pipelines.unet.runner import run_eagerly
from pipelines.weights.bases import clone_sharing_parameters

Mode = Literal["blocks", "whole"]

SIGNATURES = 256  # that are compiled at most; torch gives up after 8 by itself

log = logging.getLogger("fooocus.engine")


class CompiledBody:
    """Runs calls whose signature has been compiled so, and others as they are. A signature is compiled when it first
    comes up, on a thread of its own.

    blocks: the transformer blocks are compiled, which is quick; whole: the UNet is. Weights are inputs of what is
    compiled, so all bases of a family share it. backend: of torch.compile.
    """

    def __init__(self, rows: RowContext, mode: Mode, backend: str = "inductor") -> None:
        self._rows, self._mode = rows, mode
        self._whole = torch.compile(run_eagerly, backend=backend, dynamic=False)
        self._block = torch.compile(BasicTransformerBlock.forward, backend=backend, dynamic=False)
        self._compiled: set[Hashable] = set()
        self._begun: set[Hashable] = set()
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="compiler", initializer=_allow_signatures)

    def __call__(self, call: UNetCall, residuals: Sequence[Tensor]) -> Tensor:
        name = call.signature
        if name in self._compiled:
            return self._run(self._rows, call, residuals)
        if name not in self._begun and len(self._begun) < SIGNATURES:
            self._begun.add(name)
            self._compiler.submit(self._compile, name, call, residuals)
        return run_eagerly(call, residuals)

    def wait(self) -> int:
        """Wait until all that has come up is compiled. Returns how many signatures run compiled."""
        self._compiler.submit(int).result()
        return len(self._compiled)

    def close(self) -> None:
        """Compile nothing more; what is being compiled is left behind."""
        self._compiler.shutdown(wait=False, cancel_futures=True)

    def _run(self, rows: RowContext, call: UNetCall, residuals: Sequence[Tensor]) -> Tensor:
        if self._mode == "whole":
            return self._whole(call, residuals)
        with rows.set(call.features, self._block):
            return run_eagerly(call, residuals)

    def _compile(self, name: Hashable, call: UNetCall, residuals: Sequence[Tensor]) -> None:
        """Run the call once on a copy of its UNet, whose layers do not read the engine's context."""
        try:
            unet = clone_sharing_parameters(call.unet, {})
            rows = install_layers(unet)
            with torch.inference_mode(), rows.set(call.features):
                self._run(rows, replace(call, unet=unet), residuals)
        except Exception:
            log.exception("a UNet call was not compiled, and runs as it is")
        else:
            self._compiled.add(name)


def _allow_signatures() -> None:
    """Torch keeps this limit, 8 by itself, by thread; above it, it runs what it should compile as it is."""
    torch._dynamo.config.recompile_limit = SIGNATURES

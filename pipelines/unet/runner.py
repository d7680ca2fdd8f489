"""The runner: runs a gathered UNet call, with the control networks of the rows that have one."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from pipelines.memory.residency import RESIDENT, Residency
from pipelines.unet.branches import LoraBranches
from pipelines.unet.gathering import ControlCall, Remembered, UNetCall
from pipelines.unet.rows import Features, ImageTokens, RowContext
from pipelines.weights.control_lora import control_residuals, softness_ramp

PROJECTED_BYTES = 2**28  # a picture of SDXL takes 5 MB a row

Body = Callable[[UNetCall, Sequence[Tensor]], Tensor]
"""The UNet's answer for a call's rows. The tensors are residuals of control networks, the middle one last, or none."""


class UNetRunner:
    """Runs the calls of a family's UNets, on one thread. rows: the context that their layers read. residency: brings
    each control network and image adapter and then the UNet when it is its turn.

    What image adapters make of pictures is kept while a group of rows is unchanged: it is the same in every step.
    """

    def __init__(self, rows: RowContext, body: Body | None = None, residency: Residency = RESIDENT) -> None:
        self._rows, self._body, self._residency = rows, body or run_eagerly, residency
        self._projected: Remembered[Mapping[str, tuple[Tensor, Tensor]]] = Remembered(PROJECTED_BYTES)

    def run(self, call: UNetCall) -> Tensor:
        """What the UNet predicts for each row, (rows, channels, h, w) float32."""
        if call.features.images:
            images = tuple(replace(each, projected=self._project(each)) for each in call.features.images)
            call = replace(call, features=replace(call.features, images=images))
        residuals = self._residuals(call)
        self._residency.bring(call.unet, *_weights(call.features.loras))
        with self._rows.set(call.features):
            return self._body(call, residuals).float()

    def _residuals(self, call: UNetCall) -> list[Tensor]:
        """The summed residuals of every control that acts, zero in rows that have none; one call a network."""
        total: list[Tensor] = []
        for control in call.controls:
            self._residency.bring(control.network, *_weights(control.loras))
            with self._rows.set(Features(loras=control.loras)):
                residuals = _of_network(call, control)
            if not total:
                total = [residual.new_zeros(len(call.x), *residual.shape[1:]) for residual in residuals]
            for sum_, residual, soft in zip(total, residuals, softness_ramp(len(residuals)), strict=True):
                weights = (soft * control.weights).to(residual.dtype)
                sum_.index_add_(0, control.places, residual * weights[:, None, None, None])
        return total

    def _project(self, image: ImageTokens) -> Mapping[str, tuple[Tensor, Tensor]]:
        def project() -> Mapping[str, tuple[Tensor, Tensor]]:
            self._residency.bring(image.adapter.weights)
            return image.adapter.project(image.tokens)

        # by a reference to the adapter, which is one as long as the adapter lives, so as not to hold its weights
        return self._projected.get([image.tokens, weakref.ref(image.adapter)], image.tokens.dtype, project)


def run_eagerly(call: UNetCall, residuals: Sequence[Tensor]) -> Tensor:
    """The UNet as it is."""
    predicted: Tensor = call.unet(
        call.x,
        call.timesteps,
        encoder_hidden_states=call.text.context,
        encoder_attention_mask=call.text.mask,
        added_cond_kwargs={"text_embeds": call.text.pooled, "time_ids": call.size_ids},
        down_block_additional_residuals=residuals[:-1] if residuals else None,
        mid_block_additional_residual=residuals[-1] if residuals else None,
        return_dict=False,
    )[0]
    return predicted


def _weights(loras: LoraBranches | None) -> Sequence[nn.Module]:
    return () if loras is None else (loras.stacked.weights,)


def _of_network(call: UNetCall, control: ControlCall) -> list[Tensor]:
    def rows(tensor: Tensor) -> Tensor:
        return tensor.index_select(0, control.places)

    down, middle = control_residuals(
        control.network,
        rows(call.x),
        rows(call.timesteps),
        rows(call.text.context),
        {"text_embeds": rows(call.text.pooled), "time_ids": rows(call.size_ids)},
        control.hints,
        None if call.text.mask is None else rows(call.text.mask),
    )
    return [*down, middle]

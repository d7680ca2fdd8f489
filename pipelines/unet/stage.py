"""The stage of evaluations: one UNet call for those of many trajectories, unlike as they may be, and their guidance."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.engine.tasks import Answers, Stage
from pipelines.parts import Prediction
from pipelines.unet.gathering import Gatherer, Sample
from pipelines.unet.guidance import classifier_free, clean_latent, implied_noise, prediction_of, rescaled
from pipelines.unet.guide import Evaluate
from pipelines.unet.row_caps import RowCaps
from pipelines.unet.rows import Row
from pipelines.unet.runner import UNetRunner
from pipelines.unet.sharpening import sharpen
from pipelines.unet.token_cost import TokenCost


class EvaluationStage(Stage[Evaluate, Tensor]):
    """Answers evaluations. caps: the most rows in one call, by size. tokens: None shares calls whatever that costs."""

    name = "denoise"
    asked = Evaluate

    def __init__(self, runner: UNetRunner, gatherer: Gatherer, caps: RowCaps, tokens: TokenCost | None = None) -> None:
        self._runner, self._gatherer, self._caps, self._tokens = runner, gatherer, caps, tokens

    @property
    def tokens(self) -> tuple[int, int]:
        return self._gatherer.tokens, self._gatherer.padding

    def cap(self, ask: Evaluate) -> int:
        return self._gatherer.most_rows(self._caps.at(ask.x.shape[-2] * ask.x.shape[-1]))

    def suits(self, taken: Sequence[Evaluate], more: Evaluate) -> bool:
        """Prompts are padded to the longest of a call where that costs next to nothing, and else are called apart; so
        are LoRAs that together do not fit."""
        rows = [row for ask in (*taken, more) for row in _rows(ask)]
        if not self._gatherer.holds(rows):
            return False
        if self._tokens is None:
            return True
        lengths = [len(row.text.context) for row in rows]
        return self._tokens.worth_sharing(more.x.shape[-2] * more.x.shape[-1], lengths)

    def run(self, asks: Sequence[Evaluate]) -> Answers[Tensor]:
        led = [ask for ask in asks if ask.negative is not None]
        samples = [Sample(ask.x, ask.sigma, ask.timestep, ask.positive) for ask in asks]
        samples += [Sample(ask.x, ask.sigma, ask.timestep, ask.negative) for ask in led if ask.negative is not None]
        numbers = [[ask.sigma for ask in asks]]
        if led:
            numbers += [[ask.scale for ask in asks], [ask.sharpened for ask in asks], [ask.rescale for ask in asks]]
        call = self._gatherer.gather(asks[0].unet, samples, numbers)
        clean = _guided(asks, self._runner.run(call), *call.numbers)
        return Answers(clean.unbind(), torch.linalg.vector_norm(clean, torch.inf, dim=(1, 2, 3)))


def _guided(asks: Sequence[Evaluate], predicted: Tensor, sigmas: Tensor, *columns: Tensor) -> Tensor:
    """The guided clean latents, in the order of the asks.

    predicted: of their positive rows, then of the negative ones that there are. columns: scale, share and rescale where
    any is guided; an ask that is not has its own prediction for a negative one, at scale 1.
    """
    x, prediction = torch.stack([ask.x for ask in asks]), asks[0].prediction  # of one UNet
    positive = predicted[: len(asks)]
    clean = clean_latent(x, positive, sigmas, prediction)
    if not columns:
        return clean
    scales, shares, rescales = columns
    rows = predicted.unbind()
    behind = iter(rows[len(asks) :])
    negative = torch.stack([rows[at] if ask.negative is None else next(behind) for at, ask in enumerate(asks)])
    sharpened = [at for at, ask in enumerate(asks) if ask.sharpened > 0]
    if sharpened:
        positive = _sharpened((x, positive, clean, sigmas, shares), sharpened, prediction)
    guided = classifier_free(positive, negative, scales)
    if any(ask.rescale > 0 for ask in asks):
        guided = rescaled(guided, positive, rescales)
    return clean_latent(x, guided, sigmas, prediction)


def _sharpened(parts: Sequence[Tensor], places: Sequence[int], prediction: Prediction) -> Tensor:
    """Predictions, those at these places sharpened, as `sharpen` does it; the others are not filtered at all.

    It is the noise that is filtered, whatever was predicted: at the first levels a velocity is mostly the picture, and
    to smooth that would do the contrary. parts: x, predictions, clean latents, sigmas and shares.
    """
    predicted = parts[1]
    whole = len(places) == len(predicted)
    x, some, guide, sigmas, shares = parts if whole else [torch.stack([part[at] for at in places]) for part in parts]
    noise = sharpen(implied_noise(x, some, sigmas, prediction), guide, shares)
    filtered = prediction_of(x, noise, sigmas, prediction)
    if whole:
        return filtered
    samples = [*predicted.unbind()]
    for at, sample in zip(places, filtered.unbind(), strict=True):
        samples[at] = sample
    return torch.stack(samples)


def _rows(ask: Evaluate) -> Sequence[Row]:
    return (ask.positive,) if ask.negative is None else (ask.positive, ask.negative)

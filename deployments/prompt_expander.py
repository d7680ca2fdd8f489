"""The deployment that adds a language model's words to prompts before they are drawn."""

import asyncio
from collections.abc import Callable, Sequence

from ray import serve

from deployments.faults import service_error
from deployments.memory import return_large_blocks
from deployments.settings import ExpandingSettings
from deployments.stage import StageLog
from gateway.monitoring.trace import Trace
from pipelines.catalogue import Catalogue
from pipelines.prompts.expanding import Expands, Fits, expand_specs, fitting
from pipelines.prompts.phrasebook import Phrasebook
from pipelines.settings import DrawingSettings
from pipelines.spec import Spec
from pipelines.weights.integrity import check_files


class PromptExpander:
    """Expands the prompts of several requests in one batch. Without a language model nothing is added."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        open_expander: Callable[[], Expands | None],
        open_phrasebook: Callable[[], Phrasebook],
        open_fits: Callable[[], Fits],
    ) -> None:
        """open_expander: answers None where there is none. open_phrasebook: as the Preprocessor has it, so that both
        make the same texts. open_fits: tells what a picture's texts are held to."""
        return_large_blocks()
        self._log = StageLog.of("expand")
        self._expander = await asyncio.to_thread(open_expander)
        self._phrasebook = await asyncio.to_thread(open_phrasebook)
        self._fits = await asyncio.to_thread(open_fits)

    async def expand(self, spec: Spec, trace: Trace | None = None) -> tuple[str, ...]:
        """A whole main text for each of the spec's seeds, lengthened, or "" where nothing was added. Raises
        TimeoutError when it takes longer than the settings allow. trace: whose it is, for the log."""
        with self._log.told(trace):
            texts: tuple[str, ...] = await self._expand_batch(spec)
            return texts

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.0)
    async def _expand_batch(self, specs: list[Spec]) -> list[tuple[str, ...]]:
        return await asyncio.to_thread(self._expand, specs)

    def _expand(self, specs: Sequence[Spec]) -> list[tuple[str, ...]]:
        if self._expander is None:  # of a request from before the service had another family
            return [("",) * len(spec.seeds) for spec in specs]
        try:
            return expand_specs(specs, self._expander, self._phrasebook, self._fits)
        except TimeoutError:  # which every caller can unpickle
            raise
        except Exception as error:
            raise service_error(error) from error


def expander_of(drawing: DrawingSettings, expanding: ExpandingSettings) -> Expands | None:
    """The language model of the settings or of the family, where there is one, from files that are as they came. It
    imports torch then, so only the replica that expands calls it. Raises WeightsFault."""
    catalogue = Catalogue.open(drawing.family)
    folder = expanding.folder
    if folder is None:
        if not catalogue.has("expansion"):
            return None
        folder = catalogue.part("expansion")
        check_files(catalogue, drawing.verify_at_load, within=folder)
    from pipelines.expansion import load

    return load(
        folder,
        expanding.device,
        max_new_tokens=expanding.max_new_tokens,
        time_limit_s=expanding.time_limit_s,
        allowed=expanding.allowed,
        blocked=expanding.blocked,
    )


def fits_of(drawing: DrawingSettings) -> Fits:
    """Whether so many texts can be drawn from, as the family's own tokenizers count them."""
    from pipelines.prompts.tokenizer import tokenizers_of

    return fitting(tokenizers_of(Catalogue.open(drawing.family).config), drawing.max_prompt_chunks)

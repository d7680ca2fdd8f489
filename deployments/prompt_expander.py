"""The deployment that may lengthen prompts before they are drawn."""

from ray import serve

from pipelines.spec import Spec


class PromptExpander:
    """Expands prompts in batches. Without a language model nothing is added."""

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.0)
    async def expand(self, specs: list[Spec]) -> list[tuple[str, ...]]:
        """The main text of each picture, lengthened; empty where nothing was added. Callers pass one spec."""
        return [("",) * len(spec.seeds) for spec in specs]

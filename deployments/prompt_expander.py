"""The deployment that may lengthen prompts before they are drawn."""

from dataclasses import dataclass

from ray import serve


@dataclass(frozen=True, slots=True)
class PromptAsk:
    """A prompt to expand. seed: of the request, so that the same request is always expanded alike."""

    prompt: str
    seed: int


class PromptExpander:
    """Expands prompts in batches. Without a language model a prompt passes as it is."""

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.0)
    async def expand(self, asks: list[PromptAsk]) -> list[str]:
        """The prompt to draw for each ask. Callers pass one ask and get one text."""
        return [ask.prompt for ask in asks]

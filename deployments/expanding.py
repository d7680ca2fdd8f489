"""Asking for the words that lengthen a prompt: a request is drawn whatever comes of it."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gateway.monitoring.trace import Trace
from pipelines.spec import Spec


@dataclass(frozen=True, slots=True)
class Words:
    """texts: of each seed of a spec its lengthened main text, or "" where nothing was added. note: a sentence for the
    request's log, where there should have been words."""

    texts: tuple[str, ...]
    note: str = ""


async def ask_for_words(expander: Any, spec: Spec, limit_s: float, trace: Trace | None = None) -> Words:
    """The words of the PromptExpander behind that handle. Without words after `limit_s` seconds, or where it is away
    or fails. Raises nothing but cancellation, and then leaves no call behind. trace: whose they are."""
    response: Any = None
    try:
        response = expander.expand.remote(spec, trace)
        return Words(await asyncio.wait_for(response, limit_s))
    except TimeoutError:  # of this wait, or of the replica's own
        why = f"took longer than {limit_s:g} s"
    except Exception as error:
        logging.getLogger("ray.serve").warning("a prompt could not be expanded", exc_info=error)
        why = "failed"
    except asyncio.CancelledError:
        _cancel(response)
        raise
    _cancel(response)
    return Words(("",) * len(spec.seeds), f"The prompt expander {why}, so no words were added to the prompt.")


def _cancel(response: Any) -> None:
    with suppress(Exception):  # of a call that is over, that never reached a replica, or that was never begun
        response.cancel()

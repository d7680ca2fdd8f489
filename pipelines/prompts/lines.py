"""Prompt lines: one request's text may hold several prompts, one a line (fooocus-facts 3.1)."""

import re

_RUNS = re.compile(r" {2,}")
_TRIMMED = ",. \r\n"


def prompt_lines(text: str) -> list[str]:
    """The lines of a prompt, cleaned, without empty ones; the first is the main prompt. Never empty itself."""
    cleaned = (_RUNS.sub(" ", line).strip(_TRIMMED) for line in text.splitlines())
    return [line for line in cleaned if line] or [""]

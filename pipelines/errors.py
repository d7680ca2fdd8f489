"""Faults that the pipelines report to whoever serves them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class InputFault(Exception):
    """Something that the client gave cannot be drawn.

    type: fal's machine value for it (`image_too_small`, `feature_not_supported`, ...). field: dotted place in the
    client's input, as the spec carries it. ctx: type-specific numbers. Servers turn it into their wire shape.
    """

    def __init__(self, type: str, msg: str, field: str = "", ctx: Mapping[str, Any] | None = None) -> None:
        super().__init__(msg)
        self.type, self.msg, self.field, self.ctx = type, msg, field, ctx

    def __reduce__(self) -> tuple[Any, ...]:
        return InputFault, (self.type, self.msg, self.field, self.ctx)


class WeightsFault(Exception):
    """A file of weights is missing, damaged or of another architecture; the message says which and what to do."""


class FileGone(Exception):
    """A file that was found for a request is not there any more; it can be drawn once the file is found again."""


@contextmanager
def told_if_gone() -> Iterator[None]:
    """Raise FileGone for a file that was found before and is not there now."""
    try:
        yield
    except FileNotFoundError as fault:
        raise FileGone(f"{fault.filename} is not there any more") from fault


class DrawingFault(Exception):
    """A job cannot be drawn on this device or with these weights, though nothing that the client gave is malformed."""


class JobCancelled(Exception):
    """The job was cancelled and has left the batch."""


class EngineDead(Exception):
    """The engine's thread has ended or hangs; its replica must be replaced."""

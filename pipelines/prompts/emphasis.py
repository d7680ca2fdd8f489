"""Emphasis: `(text)` and `(text:1.3)` weigh parts of a prompt (fooocus-facts 3.5)."""

import math

STRONGER = 1.1

Weighted = tuple[str, float]


def parse_emphasis(text: str, weight: float = 1.0) -> list[Weighted]:
    """Split a prompt into (text, weight) pieces, in order.

    `(text)` multiplies the weight around it by 1.1, `(text:1.3)` sets it; both nest. `\\(` and `\\)` are literal
    parentheses, and so is a parenthesis without a partner.
    """
    pieces: list[Weighted] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            pieces.append(("".join(plain), weight))
            plain.clear()

    at = 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in ("(", ")"):
            plain.append(text[at + 1])
            at += 2
            continue
        end = _partner(text, at) if text[at] == "(" else None
        if end is None:
            plain.append(text[at])
            at += 1
            continue
        flush()
        inner, inner_weight = _own_weight(text[at + 1 : end], weight)
        pieces.extend(parse_emphasis(inner, inner_weight))
        at = end + 1
    flush()
    return pieces


def _partner(text: str, start: int) -> int | None:
    depth, at = 0, start
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 1
    return None


def _own_weight(inner: str, outer: float) -> Weighted:
    head, colon, number = inner.rpartition(":")
    if colon and head:
        try:
            given = float(number)
        except ValueError:
            given = math.nan
        if math.isfinite(given):
            return head, given
    return inner, outer * STRONGER

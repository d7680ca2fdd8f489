"""Emphasis: `(text)` and `(text:1.3)` weigh parts of a prompt (fooocus-facts 3.5)."""

import math

STRONGER = 1.1
LARGEST = 1e6  # beyond whatever may be drawn with; products of larger ones would leave what a float holds

Weighted = tuple[str, float]


def parse_emphasis(text: str, weight: float = 1.0) -> list[Weighted]:
    """Split a prompt into (text, weight) pieces, in order.

    `(text)` multiplies the weight around it by 1.1, `(text:1.3)` sets it; both nest. `\\(` and `\\)` are literal
    parentheses, and so is a parenthesis without a partner. A weight is always finite, from -1e6 to 1e6.
    """
    pieces: list[Weighted] = []
    plain: list[str] = []
    weights = [weight]
    groups: list[tuple[int, int]] = []  # around this place: where the text of each ends, and where what follows begins
    partners = _partners(text)

    def flush() -> None:
        if plain:
            pieces.append(("".join(plain), weights[-1]))
            plain.clear()

    at = 0
    while at < len(text) or groups:
        if groups and at >= groups[-1][0]:
            flush()
            at = groups.pop()[1]
            weights.pop()
        elif _escapes(text, at):
            plain.append(text[at + 1])
            at += 2
        elif at in partners:
            flush()
            end, own = _own_weight(text, at + 1, partners[at], weights[-1])
            groups.append((end, partners[at] + 1))
            weights.append(own)
            at += 1
        else:
            plain.append(text[at])
            at += 1
    flush()
    return pieces


def _escapes(text: str, at: int) -> bool:
    return text[at] == "\\" and text[at + 1 : at + 2] in ("(", ")")


def _partners(text: str) -> dict[int, int]:
    """The place of the closing parenthesis for each opening one that has one."""
    found: dict[int, int] = {}
    opened: list[int] = []
    at = 0
    while at < len(text):
        if _escapes(text, at):
            at += 1
        elif text[at] == "(":
            opened.append(at)
        elif text[at] == ")" and opened:
            found[opened.pop()] = at
        at += 1
    return found


def _own_weight(text: str, start: int, end: int, outer: float) -> tuple[int, float]:
    """Where the text of a group ends, and its weight."""
    colon = text.rfind(":", start, end)
    if colon > start:
        written = text[colon + 1 : end]
        try:
            given = float(written)
        except ValueError:
            given = math.nan
        # "nan" and "infinity" are words; a number that is too large to be finite is a number all the same
        if math.isfinite(given) or (math.isinf(given) and any(map(str.isdigit, written))):
            return colon, _bounded(given)
    return end, _bounded(outer * STRONGER)


def _bounded(weight: float) -> float:
    return max(-LARGEST, min(LARGEST, weight))

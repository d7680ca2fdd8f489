"""Places in a client's input: from the dotted text that a spec carries to the list that an error shows."""


def location(field: str) -> tuple[str | int, ...]:
    """`loras.0.path` as ("loras", 0, "path"); the empty text is the whole input."""
    return tuple(int(part) if part.isdecimal() else part for part in field.split(".") if part)

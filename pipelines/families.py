"""Where families lie on this machine, free of torch."""

import os
from pathlib import Path

VARIABLE, DEFAULT = "FOOOCUS_FAMILIES", Path("var/families")


def families_folder() -> Path:
    """Where families lie: `var/families`, or what the environment variable FOOOCUS_FAMILIES says."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


def family_folder(name: str) -> Path:
    """The folder of a family: of a name among the others, and of a path (with a slash or a dot at its start) itself."""
    return Path(name).expanduser() if "/" in name or name.startswith((".", "~")) else families_folder() / name

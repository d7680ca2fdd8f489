"""How many statements a process executes, counted so that another process can read it."""

import mmap
import os
import struct
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

FOLDER = "OVERHEAD_STATEMENTS"  # the variable that names where counts are: replicas inherit it
_COUNT = struct.Struct("=q")


def count_statements() -> None:
    """Count what this process executes on any database from here on: an addition in memory that a file shows."""
    path = Path(os.environ[FOLDER]) / str(os.getpid())
    path.write_bytes(bytes(_COUNT.size))
    with path.open("r+b") as file:
        shown = mmap.mmap(file.fileno(), _COUNT.size)

    def executed(*_: object) -> None:
        _COUNT.pack_into(shown, 0, _COUNT.unpack_from(shown)[0] + 1)

    event.listen(Engine, "before_cursor_execute", executed)


def statements(folder: Path) -> int:
    """What all processes have executed until now."""
    return sum(int(_COUNT.unpack(path.read_bytes())[0]) for path in folder.iterdir())

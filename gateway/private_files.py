"""Files with secrets: readable by their owner alone, never half written."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def read_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of `path`; where it does not exist it is made, once however many processes start together.

    Raises PermissionError when others than its owner may read the file.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = _written(path, make())
        try:
            os.link(new, path)
        except FileExistsError:
            pass  # another process was first, and its file counts
        finally:
            new.unlink()
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} holds secrets and others may read it: chmod 600")
    return path.read_bytes()


def replace(path: Path, content: bytes) -> None:
    """Put `content` in the place of what `path` holds, at once."""
    _written(path, content).replace(path)


def _written(path: Path, content: bytes) -> Path:
    # mode 0600 from the beginning
    file, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(file, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    return Path(name)

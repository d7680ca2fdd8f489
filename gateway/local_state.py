"""What of a service's state is one machine's alone: a SQLite file, a folder of files, secrets it has made."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType

from gateway.private_files import read_or_create

IDENTITY = "identity"
"""The file in `data_dir` by which what is kept there is known again, wherever its disk or its backup goes."""

SHARED: Mapping[str, str] = MappingProxyType(
    {
        "ledger_url": "env:LEDGER_URL (an address of PostgreSQL)",
        "token_secret": "file:/etc/fooocus-serve/token_secret",
        "webhook_keys": "[file:/etc/fooocus-serve/webhook_key]",
        "files_url": "s3://bucket/prefix",
    }
)
"""By setting of `gateway`: an example of what several machines share. Without it, each machine has its own."""


def to_write(settings: Iterable[str]) -> str:
    """A clause that says what to write for each of these settings, so that several machines share it."""
    return ", ".join(f"gateway.{name}: {SHARED[name]}" for name in settings)


def identity_in(data_dir: Path) -> str | None:
    """Of what is kept in `data_dir`; None where nothing has given it one."""
    try:
        return (data_dir / IDENTITY).read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def identity_of(data_dir: Path) -> str:
    """Likewise, given to it where it has none. Raises OSError."""
    return read_or_create(data_dir / IDENTITY, lambda: token_hex(16).encode()).decode("ascii").strip()

"""Addresses of the ledger's database: which there may be, and how people are shown one."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_FORMS = (
    "write postgresql://user:password@host/database, or sqlite:////folder/ledger.db, "
    "or leave it out for a SQLite file in data_dir"
)


def parse(url: str) -> URL:
    """The address of a ledger's database, with our drivers and its password where passwords stand.

    Raises ValueError for one that the ledger does not know.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"it is no address of a database; {_FORMS}") from error
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise ValueError(f"the ledger does not know {kind}; {_FORMS}")
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError(f"it names no {'file' if kind == 'sqlite' else 'database'}; {_FORMS}")
    if kind == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    (*_, password) = (parsed.password, *parsed.normalized_query.get("password", ()))  # libpq prefers the query's
    return parsed.difference_update_query(["password"]).set(drivername="postgresql+psycopg", password=password)


def shown(url: URL) -> str:
    """What `parse` returned, for people's eyes: a file's path, another one's address without what is secret in it."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    address = url.difference_update_query(_secrets(url)).set(drivername="postgresql")
    return address.render_as_string(hide_password=True)


def holds_secret(url: URL) -> bool:
    """Whether what `parse` returned says a password itself, of the database or of a client's certificate."""
    return bool(url.password or _secrets(url))


def _secrets(url: URL) -> list[str]:
    return [name for name in url.query if "password" in name or "secret" in name]

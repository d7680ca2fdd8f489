"""Which version of this service runs."""

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "fooocus-serve"


def own_version() -> str | None:
    """As its package was installed; None where it runs from its folder alone."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None

"""Which version of this service runs.

A file of its own, for what operators are told (`gateway.http`) and what is written into pictures (`deployments`) both
say it, and neither is the other's to import.
"""

from importlib.metadata import PackageNotFoundError, version

PACKAGE = "fooocus-serve"


def own_version() -> str | None:
    """As its package was installed; None where it runs from its folder alone."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None

"""Deleting files that nothing names any more."""

import logging
from collections.abc import Iterable

from gateway.errors import StoreUnavailable
from gateway.files.base import Files

logger = logging.getLogger("fooocus.gateway")


async def discard(keys: Iterable[str], files: Files) -> None:
    """Delete every file that can be deleted; one that cannot is left over, and logged."""
    remaining = list(keys)
    while remaining:
        key = remaining.pop()
        try:
            await files.delete(key)
        except StoreUnavailable as error:  # and would be for each of the others
            names = ", ".join([key, *remaining])
            logger.warning("the files store is away (%r); left over: %s", error.__cause__ or error, names)
            return
        except Exception:
            logger.exception("the file %s is left over", key)

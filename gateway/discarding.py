"""Deleting files that nothing names any more."""

import logging
from collections.abc import Iterable

from gateway.files.base import Files

logger = logging.getLogger("fooocus.gateway")


async def discard(keys: Iterable[str], files: Files) -> None:
    """Delete every file that can be deleted; one that cannot is left over, and logged."""
    for key in keys:
        try:
            await files.delete(key)
        except Exception:
            logger.exception("the file %s is left over", key)

"""Bringing the account of uploads in line with the files store, which alone knows what is there."""

import asyncio

from gateway.files.base import Files
from gateway.uploads.account import UploadAccount

BATCH = 200  # rows of one transaction


class Reconciling:
    """Gives back the places of files that expired, were never stored or went in any other way."""

    def __init__(self, account: UploadAccount, files: Files) -> None:
        self._account, self._files = account, files

    async def sweep(self) -> int:
        """Compare all rows that are due, batch by batch; return how many places that gave back.

        Raises StoreUnavailable, and has taken nothing for gone, when it cannot be told now.
        """
        freed = 0
        while True:
            due = await self._account.due(BATCH)
            found = {file: await self._files.stat(file) for file in due}
            if found:
                await self._account.agree(found)
            freed += sum(info is None for info in found.values())
            if len(due) < BATCH:
                return freed
            await asyncio.sleep(0)  # whoever else writes goes first

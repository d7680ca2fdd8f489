"""How much each key has uploaded: counted before it is stored, bounded, and brought in line with the files store."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from gateway.errors import PlatformError
from gateway.files.base import FileInfo, Files
from gateway.files.body import too_large
from gateway.files.store import UNFINISHED_S
from gateway.ledger.database import UPLOADING, Database, take_lock
from gateway.ledger.models import TooMany
from gateway.ledger.tables import UtcDateTime, metadata
from gateway.settings import GatewaySettings

# One row for each file that was uploaded or is on its way.
upload = Table(
    "upload",
    metadata,
    # its key in the files store
    Column("file", String(128), primary_key=True),
    # Whose it is: the id of an API key, empty where the service is open.
    Column("key", String(64), nullable=False),
    # staged, of an upload that is unfinished; none otherwise
    Column("parts", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # when the row is compared with the files store next, and goes if there is no such file
    Column("check_at", UtcDateTime, nullable=False),
    Index("upload_of_key", "key", "parts", "bytes"),
    Index("upload_check", "check_at"),
)

upload_part = Table(
    "upload_part",
    metadata,
    Column("file", String(128), ForeignKey("upload.file", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("bytes", BigInteger, nullable=False),
)


CHECK_S = 7 * 24 * 3600  # after which a file that stays is looked for again


def _now() -> datetime:
    return datetime.now(UTC)


class UploadAccount:
    """Places for files and for parts of unfinished ones, which are taken before anything is stored.

    A row whose file is not stored for any reason (a process that was killed, a store that went away) ends by itself:
    each has a time at which it is compared with the files store. Any number of processes may share the database: the
    limits hold over all of them. owner: a key's id, empty where the service is open. file: its key in the files store.
    Sizes in bytes. clock: UTC.
    """

    def __init__(self, database: Database, settings: GatewaySettings, clock: Callable[[], datetime] = _now) -> None:
        self._database, self._settings, self._clock = database, settings, clock

    async def take_file(self, file: str, owner: str, size: int, expires_at: float | None) -> bool:
        """A place for a file that is about to be stored whole; whether it had none. expires_at: Unix seconds, or None.

        Raises PlatformError (403) when the owner's places or bytes are used up.
        """
        until = self._clock() + timedelta(seconds=UNFINISHED_S)
        check_at = until if expires_at is None else min(until, _instant(expires_at))

        def take(connection: Connection) -> bool:
            take_lock(connection, UPLOADING)
            row = _row(connection, file)
            grown = size if row is None else max(0, size - row.bytes)
            self._grow(connection, file, owner, row, grown, check_at)
            return row is None

        return await self._database.write(take)

    async def take_part(self, file: str, owner: str, number: int, size: int, begun: int) -> int | None:
        """A place for a part that is about to be staged. The size that it had before; None for a new one.

        begun: Unix seconds, from which the upload has its time. A part that is sent again keeps the greater size, for
        nobody knows which of two at once is there in the end. Raises PlatformError: 413 when the parts of the file are
        too large together; 403 when the owner's places for files or bytes are used up; TooMany (429) when those for
        unfinished files or for parts are, which become free when uploads are completed.
        """
        check_at = _instant(begun + UNFINISHED_S)

        def take(connection: Connection) -> int | None:
            take_lock(connection, UPLOADING)
            row = _row(connection, file)
            staged = select(upload_part.c.bytes).where(upload_part.c.file == file, upload_part.c.number == number)
            earlier = connection.execute(staged).scalar()
            grown = size if earlier is None else max(0, size - earlier)
            if (0 if row is None else row.bytes) + grown > self._settings.max_upload_bytes:
                raise too_large(self._settings.max_upload_bytes)
            if earlier is None:
                self._check_parts(connection, owner, begins=row is None or row.parts == 0)
            self._grow(connection, file, owner, row, grown, check_at)
            if earlier is None:
                connection.execute(insert(upload_part).values(file=file, number=number, bytes=size))
                connection.execute(_of(file).values(parts=upload.c.parts + 1))
            elif grown:
                connection.execute(_of_part(file, number).values(bytes=size))
            return None if earlier is None else int(earlier)

        return await self._database.write(take)

    async def give_back_part(self, file: str, number: int, earlier: int | None) -> None:
        """Undo `take_part`, which returned `earlier`: the part could not be staged."""

        def give_back(connection: Connection) -> None:
            take_lock(connection, UPLOADING)
            part = (upload_part.c.file == file) & (upload_part.c.number == number)
            size = connection.execute(select(upload_part.c.bytes).where(part)).scalar()
            if size is None:
                return
            if earlier is not None:
                connection.execute(_of_part(file, number).values(bytes=earlier))
                connection.execute(_of(file).values(bytes=upload.c.bytes - size + earlier))
                return
            connection.execute(delete(upload_part).where(part))
            connection.execute(_of(file).values(bytes=upload.c.bytes - size, parts=upload.c.parts - 1))
            connection.execute(delete(upload).where(upload.c.file == file, upload.c.parts == 0))

        await self._database.write(give_back)

    async def settle(self, info: FileInfo) -> None:
        """The file is stored, and none of its parts is staged any more. It has a place even where it had none."""

        def settle(connection: Connection) -> None:
            take_lock(connection, UPLOADING)
            if not self._settle(connection, info):
                values = {"file": info.key, "key": info.terms.owner, "created_at": self._clock()}
                connection.execute(insert(upload).values(**values, **self._settled(info)))

        await self._database.write(settle)

    async def remove(self, file: str) -> None:
        """There is no such file, and nothing of it is staged."""

        def remove(connection: Connection) -> None:
            take_lock(connection, UPLOADING)
            connection.execute(delete(upload).where(upload.c.file == file))

        await self._database.write(remove)

    async def counts(self, file: str) -> bool:
        """Whether the file has a place."""
        return await self._database.read(lambda connection: _row(connection, file) is not None)

    async def due(self, limit: int) -> list[str]:
        """Files whose rows are to be compared with the files store now, at most `limit`, the longest due first."""
        oldest = select(upload.c.file).where(upload.c.check_at <= self._clock()).order_by(upload.c.check_at)
        return await self._database.read(lambda connection: [*connection.execute(oldest.limit(limit)).scalars()])

    async def agree(self, found: Mapping[str, FileInfo | None]) -> None:
        """Bring rows that are due in line with the files store. found: file -> what is there, None for nothing."""

        def agree(connection: Connection) -> None:
            take_lock(connection, UPLOADING)
            for file, info in found.items():
                if info is not None:
                    self._settle(connection, info)
                else:  # unless somebody has begun to store it meanwhile
                    connection.execute(delete(upload).where(upload.c.file == file, upload.c.check_at <= self._clock()))

        await self._database.write(agree)

    def _settle(self, connection: Connection, info: FileInfo) -> bool:
        """Whether the file has a place, which is now that of a whole one."""
        connection.execute(delete(upload_part).where(upload_part.c.file == info.key))
        return connection.execute(_of(info.key).values(self._settled(info))).rowcount == 1

    def _settled(self, info: FileInfo) -> Mapping[str, Any]:
        check_at = self._clock() + timedelta(seconds=CHECK_S)
        if info.terms.expires_at is not None:
            check_at = min(check_at, _instant(info.terms.expires_at))
        return {"parts": 0, "bytes": info.size, "check_at": check_at}

    def _grow(
        self, connection: Connection, file: str, owner: str, row: Row[Any] | None, by: int, check_at: datetime
    ) -> None:
        """Make the file's row, or let it grow by some bytes. Raises PlatformError (403) where a limit is in the way."""
        cap = self._settings.upload_bytes_of_key
        if cap is not None and by > 0:
            used = connection.execute(select(func.sum(upload.c.bytes)).where(upload.c.key == owner)).scalar() or 0
            if used + by > cap:
                raise _full(f"{cap} bytes of uploaded files")
        if row is not None:
            grown = {"bytes": upload.c.bytes + by, "check_at": min(row.check_at, check_at)}
            connection.execute(_of(file).values(grown))
            return
        most = self._settings.uploads_of_key
        if connection.execute(select(func.count()).where(upload.c.key == owner)).scalar_one() >= most:
            raise _full(f"{most} uploaded files")
        new = {"file": file, "key": owner, "parts": 0, "bytes": by, "created_at": self._clock(), "check_at": check_at}
        connection.execute(insert(upload).values(new))

    def _check_parts(self, connection: Connection, owner: str, *, begins: bool) -> None:
        """Raises TooMany when the owner may stage no further part. begins: it would be the first of its file."""
        staged = select(func.count(), func.sum(upload.c.parts)).where(upload.c.key == owner, upload.c.parts > 0)
        unfinished, parts = connection.execute(staged).one()
        if begins and unfinished >= self._settings.unfinished_uploads_of_key:
            raise TooMany(f"{unfinished} uploads of this key are unfinished; complete some, or wait for a day.")
        if (parts or 0) >= self._settings.upload_parts_of_key:
            raise TooMany(
                f"{parts} parts of unfinished uploads of this key are kept; complete some, or wait for a day."
            )


def _row(connection: Connection, file: str) -> Row[Any] | None:
    return connection.execute(select(upload).where(upload.c.file == file)).first()


def _of(file: str) -> Any:
    return update(upload).where(upload.c.file == file)


def _of_part(file: str, number: int) -> Any:
    return update(upload_part).where(upload_part.c.file == file, upload_part.c.number == number)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _full(what: str) -> PlatformError:
    """A 403, for fal's clients send what is answered with 429 again and again, and waiting alone frees nothing."""
    text = f"The key has the {what} that it may have; delete some (DELETE at a file's address), or let them expire."
    return PlatformError("budget_exhausted", text, status=403)


BATCH = 200  # rows of one transaction


class QuotaReconciler:
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

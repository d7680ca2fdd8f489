"""The tables of what was uploaded, in the ledger's database."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table

from gateway.ledger.tables import UtcDateTime, metadata

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

"""What a process that is none of ours finds at the ledger's database."""

import asyncio
import sys

from sqlalchemy import make_url

from gateway.ledger.database import CLAIMING, MIGRATING, SUBMITTING

_SQLITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("ROLLBACK")
"""

# The advisory locks first, as the ledger takes them: who waits for the table holds none that this one wants.
_POSTGRESQL = """
import sys, time
import psycopg

IDLE = '''SELECT count(*) FROM pg_stat_activity
          WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()'''

with psycopg.connect(sys.argv[1]) as connection:
    connection.execute("SET lock_timeout = '10s'")
    for lock in sys.argv[2:]:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [int(lock)])
    connection.execute("LOCK TABLE request IN ACCESS EXCLUSIVE MODE")
    connection.rollback()
    connection.autocommit = True
    until = time.monotonic() + 10
    while left := connection.execute(IDLE).fetchone()[0]:
        assert time.monotonic() < until, f"{left} connections are idle in a transaction"
        time.sleep(0.02)
"""


async def take_all_locks(url: str) -> None:
    """Take every lock that a writer may hold and let go of it, from another process; fail when that needs over 10 s."""
    if make_url(url).get_backend_name() == "sqlite":
        await _run(_SQLITE, str(make_url(url).database))
    else:
        await _run(_POSTGRESQL, url, *(str(lock) for lock in (MIGRATING, SUBMITTING, CLAIMING)))


async def _run(program: str, *arguments: str) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, *arguments, stderr=pipe)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()

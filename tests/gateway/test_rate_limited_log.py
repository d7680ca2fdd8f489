"""A log that may be told the same a thousand times a second: a line now and then, and none is forgotten."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.errors import StoreUnavailable
from gateway.rate_limited_log import RateLimitedLog, StoreFaults


def test_a_line_stands_for_those_that_were_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = RateLimitedLog(logging.getLogger("fooocus.test"), every_s=10, clock=lambda: now)
    for number in range(1000):
        log.warning("%s is away", number)
    now = 10.0
    log.warning("%s is away", "still")
    now = 20.0
    log.warning("%s is away", "and still")
    assert [record.getMessage() for record in caplog.records] == [
        "0 is away",
        "still is away (and 999 more since the last line)",
        "and still is away",
    ]


class Kept(logging.Handler):
    """A handler of its own, for pytest's is shared by all tests, and so are the filters that they give it."""

    def __init__(self, faults: StoreFaults) -> None:
        super().__init__()
        self.addFilter(faults)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def kept(faults: StoreFaults) -> Iterator[tuple[logging.Logger, Kept]]:
    logger, handler = logging.getLogger("fooocus.test"), Kept(faults)
    logger.addHandler(handler)
    yield logger, handler
    logger.removeHandler(handler)


def test_tracebacks_of_a_store_that_is_away_are_one_line_now_and_then() -> None:
    now = 0.0

    def fail(words: str) -> None:
        try:
            raise StoreUnavailable("ledger") from ConnectionError("refused\nby the server")
        except StoreUnavailable:
            log.exception(words)

    with kept(StoreFaults(every_s=10, clock=lambda: now)) as (log, handler):
        for number in range(500):
            fail(f"{number} failed")
        log.error("something else")
        now = 10.0
        fail("the last failed")
    away = "The ledger store cannot be reached now; try again.: refused"
    assert [record.getMessage() for record in handler.records] == [
        f"0 failed: {away} (and 0 more since the last line)",
        "something else",
        f"the last failed: {away} (and 499 more since the last line)",
    ]
    assert all(record.exc_info is None for record in handler.records)


def test_other_faults_keep_their_tracebacks() -> None:
    with kept(StoreFaults()) as (log, handler):
        for _ in range(2):
            try:
                raise ValueError("ours")
            except ValueError:
                log.exception("failed")
    assert [record.exc_info is not None for record in handler.records] == [True, True]

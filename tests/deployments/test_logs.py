"""What the packages log is written as Serve writes."""

import asyncio
import logging

import pytest

from deployments.logs import SERVES, leave_out_calls_of, log_as_serve_does
from gateway.monitoring.trace import Trace, begin_apart, follow, followed


@pytest.fixture
def kept() -> list[str]:
    """Messages that reach Serve's handler."""
    serves = logging.getLogger(SERVES)
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    serves.handlers, serves.filters = [handler], []
    serves.setLevel(logging.INFO)
    return seen


def test_every_package_logs_from_serves_level_on(kept: list[str]) -> None:
    log_as_serve_does()
    log_as_serve_does()
    for name in ("fooocus.gateway", "fooocus.engine", "fooocus.weights", "fooocus.webhooks"):
        logging.getLogger(name).info("from %s", name)
        logging.getLogger(name).debug("nobody asked")
    assert kept == ["from fooocus.gateway", "from fooocus.engine", "from fooocus.weights", "from fooocus.webhooks"]


def test_calls_that_come_all_the_time_are_left_out(kept: list[str]) -> None:
    leave_out_calls_of("report")
    serves = logging.getLogger(SERVES)
    for method in ("report", "deliver"):
        serves.info("CALL %s OK 5.3ms", method, extra={"serve_access_log": True})
    serves.info("a report of something else")
    assert kept == ["CALL deliver OK 5.3ms", "a report of something else"]


def test_a_line_says_which_request_it_is_about(kept: list[str]) -> None:
    seen: list[logging.LogRecord] = []
    logging.getLogger(SERVES).handlers[0].emit = seen.append  # type: ignore[method-assign]
    log_as_serve_does()
    follow(Trace("r-1", "fal-ai/fooocus", "key-1", 2))
    for name in ("fooocus.gateway", SERVES):
        logging.getLogger(name).info("of a request", extra={"request_id": "serves"})
    follow(None)
    logging.getLogger("fooocus.gateway").info("of none")
    for record in seen[:2]:
        told = {name: getattr(record, name) for name in ("request_id", "endpoint", "key", "attempt", "call_id")}
        assert told == {
            "request_id": "r-1",
            "endpoint": "fal-ai/fooocus",
            "key": "key-1",
            "attempt": 2,
            "call_id": "serves",
        }
    assert not hasattr(seen[2], "request_id")


async def test_what_begins_apart_is_about_no_request(kept: list[str]) -> None:
    async def about() -> Trace | None:
        return followed()

    follow(Trace("r-1"))
    assert await asyncio.create_task(about()) == Trace("r-1")
    assert await begin_apart(about()) is None
    follow(None)

"""A log that may be told the same a thousand times a second: a line now and then, and none is forgotten."""

import logging

import pytest

from gateway.rate_limited_log import RateLimitedLog


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

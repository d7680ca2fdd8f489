"""What the packages log goes where Serve logs, in its form and from its level on."""

import logging

from gateway.rate_limited_log import StoreFaults

OURS, SERVES = "fooocus", "ray.serve"


def log_as_serve_does() -> None:
    """Give the service's loggers the handlers and the level that Serve has set up in this replica."""
    ours, serves = logging.getLogger(OURS), logging.getLogger(SERVES)
    ours.handlers = [*serves.handlers]
    faults = StoreFaults()
    for handler in ours.handlers:  # loggers below this one pass it by
        handler.addFilter(faults)
    ours.setLevel(serves.getEffectiveLevel())


def leave_out_calls_of(*methods: str) -> None:
    """Keep Serve from logging a line for each call of methods of this replica that come all the time."""
    words = [f" {method} " for method in methods]

    def is_told(record: logging.LogRecord) -> bool:
        left_out = getattr(record, "serve_access_log", False) and any(word in record.getMessage() for word in words)
        return not left_out

    logging.getLogger(SERVES).addFilter(is_told)

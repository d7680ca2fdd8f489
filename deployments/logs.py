"""What the packages log goes where Serve logs, in its form and from its level on."""

import logging

OURS, SERVES = "fooocus", "ray.serve"


def log_as_serve_does() -> None:
    """Give the service's loggers the handlers and the level that Serve has set up in this replica."""
    ours, serves = logging.getLogger(OURS), logging.getLogger(SERVES)
    ours.handlers = [*serves.handlers]
    ours.setLevel(serves.getEffectiveLevel())


def leave_out_calls_of(method: str) -> None:
    """Keep Serve from logging a line for each call of a method of this replica that comes all the time."""
    logging.getLogger(SERVES).addFilter(
        lambda record: not (getattr(record, "serve_access_log", False) and f" {method} " in record.getMessage())
    )

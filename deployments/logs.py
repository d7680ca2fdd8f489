"""What the packages log goes where Serve logs, in its form and from its level on, with the request that it is about."""

import logging

from gateway.monitoring.trace import followed
from gateway.rate_limited_log import StoreFaults

OURS, SERVES = "fooocus", "ray.serve"


class RequestContext(logging.Filter):
    """Writes into each line which request it is about: its id, endpoint, attempt and key's id.

    Serve has written the id of the call into `request_id` by then, which nobody outside knows; it stays beside it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        trace = followed()
        if trace is not None:
            call = getattr(record, "request_id", None)
            if call is not None and call != trace.request_id:
                record.call_id = call
            for name, value in trace.fields().items():
                setattr(record, name, value)
        return True


def log_as_serve_does() -> None:
    """Give the service's loggers the handlers and the level that Serve has set up in this replica, and both the request
    that a line is about."""
    ours, serves = logging.getLogger(OURS), logging.getLogger(SERVES)
    ours.handlers = [*serves.handlers]
    for handler in ours.handlers:  # loggers below this one pass its own filters by
        for each in (StoreFaults, RequestContext):
            if not any(isinstance(filter_, each) for filter_ in handler.filters):
                handler.addFilter(each())
    ours.setLevel(serves.getEffectiveLevel())


def leave_out_calls_of(*methods: str) -> None:
    """Keep Serve from logging a line for each call of methods of this replica that come all the time, or that tell of
    themselves."""
    words = [f" {method} " for method in methods]

    def is_told(record: logging.LogRecord) -> bool:
        left_out = getattr(record, "serve_access_log", False) and any(word in record.getMessage() for word in words)
        return not left_out

    logging.getLogger(SERVES).addFilter(is_told)

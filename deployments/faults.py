"""Errors on their way through Ray: what a stage lets out, and what its caller makes of what arrives."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)

from gateway.errors import ModelError, PlatformError, ServiceError, location
from gateway.weights.sharing import NotShared
from pipelines.errors import DrawingFault, EngineDead, FileGone, InputFault

_LOST = (
    EngineDead,
    RayActorError,
    ReplicaUnavailableError,
    DeploymentUnavailableError,
    NodeDiedError,
    ObjectLostError,
    WorkerCrashedError,
    TaskCancelledError,
)


@contextmanager
def service_errors() -> Iterator[None]:
    """Let only errors of `gateway.errors` out of a stage, besides cancellation.

    A caller unpickles what a stage raises: an error class of torch would make every gateway import torch.
    """
    try:
        yield
    except ServiceError:
        raise
    except Exception as error:
        raise service_error(error) from error


def service_error(error: BaseException) -> ServiceError:
    """What `error`, raised by a stage or by Ray on the way to it, is towards the client.

    A replica that died or whose engine did is `runner_disconnected`, which clients may try again. Weights that were
    found and are gone again are `runner_scheduling_failure`, for the next attempt finds them anew. What cannot be drawn
    here and what nobody foresaw go to the log and are `internal_error`.
    """
    error = _root(error)
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, InputFault):
        return ModelError(error.type, error.msg, location(error.field), ctx=error.ctx)
    if isinstance(error, NotShared | FileGone):
        logging.getLogger("ray.serve").error("weights of a request are not here any more: %s", error)
        return PlatformError("runner_scheduling_failure", "Weights of this request are not at hand now; try again.")
    if isinstance(error, DrawingFault):
        logging.getLogger("ray.serve").error("a picture could not be drawn", exc_info=error)
        return PlatformError("internal_error", f"The request failed: {error}.")
    if isinstance(error, BackPressureError):
        return PlatformError("runner_scheduling_failure", "All runners are busy; try again.")
    if isinstance(error, _LOST):
        return PlatformError("runner_disconnected", "A runner of this request was lost; try again.")
    logging.getLogger("ray.serve").error("a stage failed", exc_info=error)
    return PlatformError("internal_error", "The request failed inside the service.")


def _root(error: BaseException) -> BaseException:
    """What was raised at first: a stage that has a failed response as its argument fails around that."""
    while True:
        inner = error.cause if isinstance(error, RayTaskError) else None
        if type(error) is RayServeException:  # how Serve reports that the maker of an argument has died
            inner = error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner

"""fal's two error shapes: faults of a request (a list under `detail`) and faults of the platform (a text)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

DOCS = "https://docs.fal.ai/errors/#"
STORE_RETRY_AFTER_S = 5

# error_type -> status (fal-protocol 8.3)
PLATFORM_STATUS: Mapping[str, int] = {
    "request_timeout": 504,
    "startup_timeout": 504,
    "runner_scheduling_failure": 503,
    "runner_connection_timeout": 503,
    "runner_disconnected": 503,
    "runner_connection_refused": 503,
    "runner_connection_error": 503,
    "runner_incomplete_response": 502,
    "runner_server_error": 500,
    "client_disconnected": 499,
    "client_cancelled": 499,
    "bad_request": 400,
    "internal_error": 500,
}
RETRYABLE_PLATFORM = frozenset(
    kind for kind, status in PLATFORM_STATUS.items() if status in (503, 504) and kind != "request_timeout"
)


class ValidationErrorBody(TypedDict):
    loc: Annotated[list[str | int], Field(description="Way to the field.")]
    msg: str
    type: Annotated[str, Field(description="Stable, for programs.")]
    url: Annotated[str, Field(json_schema_extra={"format": "uri"})]
    ctx: NotRequired[Annotated[dict[str, Any], Field(description="By type: a limit, the values that are expected.")]]
    input: NotRequired[Annotated[Any, Field(description="The offending value, where it is short.")]]


class HTTPValidationErrorBody(TypedDict):
    """Faults of the input, or of the model with it."""

    detail: Annotated[list[ValidationErrorBody], Field(min_length=1)]
    message: str


class PlatformErrorBody(TypedDict):
    """A fault that is not the model's."""

    detail: str
    error_type: str
    message: str


class ServiceError(Exception):
    """An error that has a status and a body on the wire. Subclasses say which of fal's shapes it takes."""

    status: int

    def body(self) -> Mapping[str, Any]:
        raise TypeError(f"{type(self).__name__} has no wire form")

    def headers(self) -> dict[str, str]:
        return {}


class ModelError(ServiceError):
    """A request that the model cannot serve, in the shape `{"detail": [{loc, msg, type, url, ctx?, input?}]}`.

    type: fal's stable machine value (fal-protocol 8.2). loc: path of the offending field without `body`.
    """

    def __init__(
        self,
        type: str,
        msg: str,
        loc: Sequence[str | int] = (),
        *,
        status: int = 422,
        ctx: Mapping[str, Any] | None = None,
        input: Any = None,
    ) -> None:
        super().__init__(msg)
        self.type, self.msg, self.loc, self.status = type, msg, tuple(loc), status
        self.ctx, self.input = ctx, input

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_model_error, (self.type, self.msg, self.loc, self.status, self.ctx, self.input)

    def entry(self) -> ValidationErrorBody:
        found: ValidationErrorBody = {
            "loc": ["body", *self.loc],
            "msg": self.msg,
            "type": self.type,
            "url": DOCS + self.type,
        }
        if self.ctx is not None:
            found["ctx"] = dict(self.ctx)
        if self.input is not None:
            found["input"] = self.input
        return found

    def body(self) -> HTTPValidationErrorBody:
        return {"detail": [self.entry()], "message": self.msg}

    def headers(self) -> dict[str, str]:
        return {"x-fal-retryable": "false" if self.status < 500 else "true"}


class ValidationErrors(ServiceError):
    """Several entries of `ModelError`'s shape in one 422 answer."""

    status = 422

    def __init__(self, errors: Sequence[ModelError]) -> None:
        super().__init__("; ".join(error.msg for error in errors))
        self.errors = tuple(errors)

    def __reduce__(self) -> tuple[Any, ...]:
        return ValidationErrors, (self.errors,)

    def body(self) -> HTTPValidationErrorBody:
        return {"detail": [error.entry() for error in self.errors], "message": str(self)}

    def headers(self) -> dict[str, str]:
        return {"x-fal-retryable": "false"}


class PlatformError(ServiceError):
    """A fault that is not the model's, in the shape `{"detail": text, "error_type": value}` (fal-protocol 8.3)."""

    def __init__(self, error_type: str, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.error_type, self.detail = error_type, detail
        self.status = PLATFORM_STATUS[error_type] if status is None else status

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_platform_error, (self.error_type, self.detail, self.status)

    def body(self) -> PlatformErrorBody:
        return {"detail": self.detail, "error_type": self.error_type, "message": self.detail}

    def headers(self) -> dict[str, str]:
        retry = self.error_type in RETRYABLE_PLATFORM
        return {
            "x-fal-error-type": self.error_type,
            "x-fal-retryable": "true" if retry else "false",
            "x-fal-needs-retry": "1" if retry else "0",
        }


class StoreUnavailable(PlatformError):
    """A store (`ledger` or `files`) is away: nothing is wrong with the request, which its client may send again."""

    def __init__(self, store: str) -> None:
        super().__init__("runner_connection_error", f"The {store} store cannot be reached now; try again.")
        self.store = store

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreUnavailable, (self.store,)

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "retry-after": str(STORE_RETRY_AFTER_S)}


def _rebuild_model_error(
    type: str, msg: str, loc: Sequence[str | int], status: int, ctx: Mapping[str, Any] | None, input: Any
) -> ModelError:
    return ModelError(type, msg, loc, status=status, ctx=ctx, input=input)


def _rebuild_platform_error(error_type: str, detail: str, status: int) -> PlatformError:
    return PlatformError(error_type, detail, status=status)


def location(field: str) -> tuple[str | int, ...]:
    """`loras.0.path` as ("loras", 0, "path"); the empty text is the whole input."""
    return tuple(int(part) if part.isdecimal() else part for part in field.split(".") if part)

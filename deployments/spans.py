"""Spans of requests, where Serve's tracing is on: all of one request share a trace, whose id is the request's.

So whoever has the id that a client was told (`x-fal-request-id`) has the trace, and nothing of it is stored: the
gateway that accepts a request and the dispatcher that draws it, perhaps an hour later, make the same of the same id.
Serve's own spans of the calls to the stages hang below.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from time import time_ns
from uuid import UUID

from opentelemetry import trace as api
from opentelemetry.context import Context, attach
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision

from gateway.monitoring.trace import Trace

NAME = "fooocus"
NS = 1_000_000_000


def record(name: str, trace: Trace, seconds: float) -> None:
    """A span that ends now and took so long."""
    if (parent := _parent(trace)) is not None:
        now = time_ns()
        begun = now - int(seconds * NS)
        _tracer().start_span(name, parent, attributes=trace.fields(), start_time=begun).end(now)


@contextmanager
def spanning(name: str, trace: Trace) -> Iterator[None]:
    """A span of what is done inside, below which that of all calls from this task stands from here on."""
    if (parent := _parent(trace)) is None:
        yield
        return
    span = _tracer().start_span(name, parent, attributes=trace.fields())
    # never detached: a generator may be closed in another context, and the task is about this request to its end
    attach(api.set_span_in_context(span))
    try:
        yield
    finally:
        span.end()


def to_collector() -> list[SpanProcessor]:
    """What sends spans to a collector by OTLP (`OTEL_EXPORTER_OTLP_ENDPOINT` says where): `exporter_import_path`.

    Raises ImportError, with what to install, where the exporter is missing.
    """
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ImportError("spans are sent by another package: pip install 'fooocus-serve[tracing]'") from error
    return [BatchSpanProcessor(OTLPSpanExporter())]


def _tracer() -> api.Tracer:
    return api.get_tracer(NAME)


def _parent(trace: Trace) -> Context | None:
    """The request itself, of which everybody decides alike whether it is sampled; None where nothing is traced."""
    provider = api.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return None
    try:
        number = UUID(trace.request_id).int
    except ValueError:
        return None
    # samplers look at the last bits alone, of which two are the same in every id
    mixed = int.from_bytes(sha256(number.to_bytes(16, "big")).digest()[:16], "big")
    sampled = provider.sampler.should_sample(Context(), mixed, NAME).decision is Decision.RECORD_AND_SAMPLE
    flags = api.TraceFlags(api.TraceFlags.SAMPLED if sampled else api.TraceFlags.DEFAULT)
    request = api.SpanContext(number, number & (2**64 - 1), is_remote=True, trace_flags=flags)
    return api.set_span_in_context(api.NonRecordingSpan(request), Context())

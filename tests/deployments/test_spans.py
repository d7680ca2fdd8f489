"""Spans of a request: one trace, whose id is the request's, whoever makes them."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from deployments import spans
from deployments.spans import record, spanning, to_collector
from gateway.monitoring.trace import Trace

Finished = InMemorySpanExporter


@pytest.fixture
def ratio() -> float:
    return 1.0


@pytest.fixture
def finished(ratio: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[Finished]:
    """Where the spans are, as Serve would set tracing up."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(spans.api, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(spans.api, "get_tracer", provider.get_tracer)
    yield kept
    provider.shutdown()


def trace_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


async def test_all_spans_of_a_request_share_the_trace_that_its_id_names(finished: Finished) -> None:
    trace = Trace(str(uuid4()), "fal-ai/fooocus", "key-1", 2)
    record("accept", trace, 0.5)
    with spanning("run", trace), api.get_tracer("serve").start_as_current_span("route_to_replica"):
        pass
    told = finished.get_finished_spans()
    assert [span.name for span in told] == ["accept", "route_to_replica", "run"]
    assert {trace_of(span) for span in told} == {UUID(trace.request_id).int}
    assert told[1].parent == told[2].get_span_context()
    assert told[0].attributes is not None
    assert dict(told[0].attributes) == trace.fields()
    assert told[0].end_time is not None
    assert told[0].start_time is not None
    assert told[0].end_time - told[0].start_time == pytest.approx(0.5e9, rel=0.01)


@pytest.mark.parametrize("ratio", [0.25])
def test_a_request_is_sampled_everywhere_or_nowhere_and_as_often_as_was_set(finished: Finished) -> None:
    for _ in range(400):
        trace = Trace(str(uuid4()))
        record("accept", trace, 0.1)
        record("queue", trace, 0.1)
    told = [trace_of(span) for span in finished.get_finished_spans()]
    assert 60 <= len(set(told)) <= 140
    assert all(told.count(one) == 2 for one in set(told))


async def test_without_tracing_nothing_is_made() -> None:
    trace = Trace(str(uuid4()))
    record("accept", trace, 0.1)
    with spanning("run", trace):
        assert not api.get_current_span().get_span_context().is_valid


def test_a_collector_needs_a_package_that_the_message_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ImportError, match=r"fooocus-serve\[tracing\]"):
        to_collector()

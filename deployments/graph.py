"""The graph: how the stages that make a picture are joined. The dispatcher runs it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from time import perf_counter, time
from typing import Any

import ray

from deployments.expanding import ask_for_words
from deployments.faults import service_error
from deployments.routing import Elsewhere, to_replica
from deployments.spans import spanning
from gateway.errors import PlatformError
from gateway.images.codec import preview_of
from gateway.monitoring.trace import followed
from gateway.picture_sources import STORED
from gateway.work import Delivering, Event, Finished, Note, Placed, Waits, Work
from gateway.worker.places import Places, Ticket
from gateway.worker.placing import Wanted
from pipelines.events import Complete, Preview, Words
from pipelines.needs import well_known
from pipelines.prompts.assembly import Texts
from pipelines.prompts.telling import told
from pipelines.spec import Spec
from pipelines.wanted import rows_of, weights_of

FIRST_LOOK_S, LAST_LOOK_S = 0.005, 0.1  # between two looks whether inputs are ready

# A handle is untyped in Ray: its methods are those of the deployment that it stands for.
Handle = Any


@dataclass(frozen=True)
class Stages:
    """Handles of the deployments that the graph calls; applications while the app is being built.

    expanding_limit_s: how long a request waits for the words of the prompt expander.
    """

    preprocessor: Handle
    prompt_expander: Handle
    diffuser: Handle
    safety_checker: Handle
    postprocessor: Handle
    expanding_limit_s: float


class Graph:
    """Draws works through the deployments: a `gateway.work.Runner`.

    places: says which replica draws what, and lets wait what none has room for; without, Serve chooses.
    """

    def __init__(self, stages: Stages, places: Places | None = None) -> None:
        self._places = places
        self._stages = replace(
            stages,
            preprocessor=_by_reference(stages.preprocessor),
            diffuser=_by_reference(stages.diffuser),
            safety_checker=_by_reference(stages.safety_checker),
            postprocessor=_by_reference(stages.postprocessor),
        )

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        """See `gateway.work.Runner.run`. Raises only errors of `gateway.errors`, besides cancellation."""
        calls: list[Handle] = []
        # one context goes with every call, so that the logs of all stages name the request
        trace = followed() or work.trace()
        ending = ExitStack()
        ending.enter_context(spanning("run", trace))
        ticket: Ticket | None = None
        try:
            stages, spec, clock = self._stages, work.spec, Clock()
            # Both branches start here. The inputs go on unawaited, so that their pixels do not pass through here. No
            # request can do without them: all that is drawn has texts, which need what the Preprocessor's node has of
            # styles, wildcards and embeddings, and what is not drawn has a picture that is to be fetched.
            inputs = _begun(calls, stages.preprocessor.prepare.remote(spec, work.delivery.owner, trace))
            expansions: tuple[str, ...] = ()
            if spec.expand_prompt:
                words = await ask_for_words(stages.prompt_expander, spec, stages.expanding_limit_s, trace)
                clock.lap("expansion")
                expansions = words.texts
                if words.note:
                    yield Note(words.note)
            diffuser, asked_at, place = stages.diffuser.options(stream=True), time(), ""
            if self._places is not None:
                if fetches(spec):  # nobody's rows wait for a slow download
                    self._places.fetching(work.request_id)
                    await _readiness(inputs)
                wanted = Wanted(rows_of(spec), weights_of(spec), work.hint)
                ticket = self._places.ask(work.request_id, wanted, work.delivery.owner)
                if not ticket.replica:
                    yield Waits()
                    await ticket.placed()
                    yield Placed()
                place = ticket.replica
                diffuser = to_replica(diffuser, place)
            asked = (work.request_id, spec, inputs, expansions, previews, asked_at, trace, place)
            drawing = _begun(calls, diffuser.draw.remote(*asked))
            texts: tuple[Texts, ...] = ()
            stream = await drawing._to_object_ref_gen()
            complete: Complete | None = None
            async for reference in stream:
                for event in await reference:
                    if isinstance(event, Complete):
                        complete = event
                    elif isinstance(event, Preview):
                        seen = event.pixels, event.step, event.steps
                        yield await asyncio.to_thread(preview_of, *seen, veiled=spec.check_safety)
                    elif isinstance(event, Elsewhere):
                        self._has_moved(ticket, event.replica)
                    elif isinstance(event, Words):
                        texts = event.texts
                        for line in told(texts, guided=spec.guidance.acts):
                            yield Note(line, "INFO")
                    else:
                        yield event
                if complete is not None:
                    break
            pixels = await _next_unread(stream)
            if complete is None:
                raise _incomplete()
            calls.remove(drawing)  # it has given all that it had to give
            self._give_back(ticket)
            clock.lap("inference")
            yield Delivering()
            checked: Any = [0.0] * complete.pictures
            if spec.check_safety:
                checking = stages.safety_checker.check.remote(pixels, spec.safety_checker_version, trace)
                checked = _begun(calls, checking)
            delivery = (work.request_id, work.delivery, work.base_url)
            delivering = _begun(
                calls, stages.postprocessor.deliver.remote(*delivery, pixels, checked, spec, texts, trace)
            )
            objections = await checked if spec.check_safety else checked
            for text in _blacked_out(spec, objections):
                yield Note(text)
            clock.lap("safety")
            images = await delivering
            clock.lap("delivery")
            prompt = texts[0].prompt if texts else spec.prompt
            yield Finished(images, [each > 0 for each in objections], {**complete.timings, **clock.laps}, prompt)
        except BaseException as error:
            for call in calls:
                _cancel(call)
            if isinstance(error, Exception):
                raise service_error(error) from error
            raise
        finally:
            ending.close()
            self._give_back(ticket)

    def _has_moved(self, ticket: Ticket | None, replica: str) -> None:
        if self._places is not None and ticket is not None:
            self._places.moved(ticket, replica)

    def _give_back(self, ticket: Ticket | None) -> None:
        if self._places is not None and ticket is not None:
            self._places.give_back(ticket)


def _blacked_out(spec: Spec, objections: Sequence[float]) -> list[str]:
    """A sentence for each picture that is black."""
    who = f"the safety checker {spec.safety_checker_version} objects to it"
    return [
        f"picture {number} of {len(objections)} (seed {seed}) is black: {who}, by {objection:.3f}"
        for number, (seed, objection) in enumerate(zip(spec.seeds, objections, strict=False), start=1)
        if objection > 0
    ]


class Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = perf_counter()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.laps[name], self._since = now - self._since, now


def fetches(spec: Spec) -> bool:
    """Whether its preparation may take longer than moments: pictures, and weights that the family cannot have, which
    calls its own by plain names or by addresses that are well known."""
    files = [each.source for each in spec.loras] + [each.source for each in spec.embeddings]
    return bool(spec.pictures) or any(
        source.startswith(STORED) or ("/" in source and well_known(source) is None) for source in files
    )


async def _readiness(response: Handle) -> None:
    """Return when what was asked for is there, or has failed, which is raised by whoever gets it. Its value stays where
    it was made: Ray's own wait on a loop would fetch it."""
    reference, pause = await response._to_object_ref(), FIRST_LOOK_S
    while not ray.wait([reference], timeout=0, fetch_local=False)[0]:
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LAST_LOOK_S)


async def _next_unread(stream: Handle) -> Handle:
    """The reference of the item that ends a drawing's stream, whose value stays where it was made.

    The item belongs to us who called, so it outlives the replica that made it. What failed in its place is raised by
    whoever gets the reference. A thread waits for it: Ray's own wait on a loop would fetch the value.
    """
    reference = await asyncio.to_thread(next, stream, None)
    if reference is None:
        raise _incomplete()
    return reference


def _incomplete() -> PlatformError:
    return PlatformError("runner_incomplete_response", "The drawing ended without its pictures.")


def _by_reference(handle: Handle) -> Handle:
    """The handle of a stage that takes or gives pixels: they go through the object store, past whoever only calls.

    Serve does so by itself, but not in its throughput mode, which sends messages, of 4 MB at most, from process to
    process.
    """
    return handle.options(_by_reference=True)


def _begun(calls: list[Handle], response: Handle) -> Handle:
    calls.append(response)
    return response


def _cancel(response: Handle) -> None:
    with suppress(Exception):  # a call that never reached a replica raises its own error here
        response.cancel()

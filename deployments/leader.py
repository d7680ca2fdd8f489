"""How the Dispatcher that leads is reached, while another one stands by.

Whichever is asked says who leads. Who calls remembers it, and goes there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ray.exceptions import RayTaskError

from deployments.routing import to_replica

Asked = ParamSpec("Asked")
Found = TypeVar("Found")

# A handle is untyped in Ray: its methods are those of the deployment that it stands for.
Handle = Any


@dataclass(frozen=True, slots=True)
class Told:
    """What a Dispatcher answers. leader: the replica that leads; empty where this one does not know. leads: whether it
    is this one, which alone has an answer."""

    leader: str
    leads: bool = False
    answer: Any = None


class Leads(Protocol):
    """The part of `gateway.worker.leading.Leading` that is used."""

    @property
    def leads(self) -> bool: ...

    @property
    def leader(self) -> str: ...


class MayLead(Protocol):
    @property
    def leading(self) -> Leads: ...


Asks = TypeVar("Asks", bound=MayLead)


def by_leader(
    method: Callable[Concatenate[Asks, Asked], Awaitable[Any]],
) -> Callable[Concatenate[Asks, Asked], Coroutine[Any, Any, Told]]:
    """A method of the Dispatcher that does what it does at the one which leads."""

    @wraps(method)
    async def asked(self: Asks, /, *given: Asked.args, **named: Asked.kwargs) -> Told:
        if not self.leading.leads:
            return Told(self.leading.leader)
        answer = await method(self, *given, **named)
        return Told(self.leading.leader, True, answer)

    return asked


class NobodyLeads(Exception):
    """Of the dispatchers that were asked none leads: another one will within seconds."""


class LeaderHandle:
    """The Dispatcher that leads. A call that gets no answer within `answer_s` is given up."""

    def __init__(self, dispatcher: Handle, answer_s: float) -> None:
        self._dispatcher, self._answer_s = dispatcher, answer_s
        self._leader, self._reached = "", dispatcher

    async def ask(self, method: str, *given: Any) -> Any:
        """What the method returns. Raises what it raises, TimeoutError and NobodyLeads."""
        for _ in range(2):
            asked = self._leader
            try:
                told: Told = await self._answered(getattr(self._reached, method).remote(*given))
            except RayTaskError:  # raised there: it has answered, and what it said is no sign of who leads
                raise
            except Exception:  # not where the caller is cancelled, which others share this with
                self._go_to("")  # it may have gone
                raise
            self._go_to(told.leader)
            if told.leads:
                return told.answer
            if told.leader in ("", asked):
                break
        raise NobodyLeads(told.leader)

    def _go_to(self, leader: str) -> None:
        if leader != self._leader:
            self._leader = leader
            self._reached = to_replica(self._dispatcher, leader) if leader else self._dispatcher

    async def _answered(self, response: Handle) -> Any:
        """Its failure, or the end of the time that it has, cancels the call."""
        try:
            return await asyncio.wait_for(response, self._answer_s)
        except BaseException:
            response.cancel()  # or it would wait in the router for a dispatcher to come
            raise

"""Routes that say what they need of their callers, and which of them a call means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette import routing
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import Scope

from gateway.keys.base import Scope as KeyScope
from gateway.keys.tokens import Purpose


class Route(routing.Route):
    """A route that is called with a key of the scope `needs`; with none where that is None.

    token: of which purpose a token does instead of a key. reads_a_file: it tells by the file who may read it, so that
    nobody needs a key, and a key of any scope counts. bearer: a key may be sent as a bearer token too, as clients of
    other protocols send theirs.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: Sequence[str],
        needs: KeyScope | None,
        token: Purpose | None = None,
        reads_a_file: bool = False,
        bearer: bool = False,
    ) -> None:
        super().__init__(path, endpoint, methods=[*methods])
        self.needs, self.token, self.reads_a_file, self.bearer = needs, token, reads_a_file, bearer


@dataclass(frozen=True, slots=True)
class Called:
    """What a call means. route: None for a path that no route has. has_method: whether the route takes its method."""

    route: Route | None = None
    has_method: bool = False
    path_params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether everybody may make this call."""
        return self.route is not None and self.route.needs is None

    @property
    def reads_a_file(self) -> bool:
        return self.has_method and self.route is not None and self.route.reads_a_file

    @property
    def takes_bearers(self) -> bool:
        """Whether a bearer token is a key."""
        return self.route is not None and self.route.bearer


def called(scope: Scope) -> Called:
    """The route that the router of this app takes; one of another method where none has the call's."""
    other = Called()
    for route in scope["app"].routes:
        if isinstance(route, Route):
            match, inner = route.matches(scope)
            if match is Match.FULL:
                return Called(route, True, inner["path_params"])
            if match is Match.PARTIAL and other.route is None:
                other = Called(route, False, inner["path_params"])
    return other


def methods_of(request: Request) -> str:
    """The methods of all routes of the path, of which the router names the first one's alone. Routes of any
    path count last.

    HEAD, which the router adds to every GET, is left out.
    """
    routes = [
        each
        for each in request.app.routes
        if isinstance(each, routing.Route) and each.matches(request.scope)[0] is Match.PARTIAL
    ]
    own = [each for each in routes if ":path}" not in each.path]
    return ", ".join(sorted({method for each in own or routes for method in each.methods or () if method != "HEAD"}))

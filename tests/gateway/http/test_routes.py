"""Routes say what they need of a caller, and a call means the route that has its method."""

import re

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.http.routes import Called, Route, called
from gateway.keys.base import Scope
from gateway.keys.tokens import Purpose

OPEN = {
    *("/", "/health", "/ready", "/api/v1/models", "/openapi.json", "/api/openapi/queue/openapi.json"),
    *("/.well-known/jwks.json", "/rest/.well-known/jwks.json"),
    # the pages, which ask for what they show with a key
    *("/requests", "/status", "/models/{endpoint:path}", "/static/{version}/{name:path}"),
    *("/cdn/upload/{id}", "/cdn/upload/{id}/complete", "/cdn/upload/{id}/{number}"),  # their addresses are signed
}


def means(parts: Parts, method: str, path: str) -> Called:
    return called({"type": "http", "app": create_app(parts), "method": method, "path": path, "headers": []})


def test_every_route_of_the_app_says_what_it_needs(parts: Parts) -> None:
    routes = create_app(parts).routes
    assert all(isinstance(route, Route) for route in routes)
    assert {route.path for route in routes if isinstance(route, Route) and route.needs is None} == OPEN


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
@pytest.mark.parametrize("path", ["/requests", "/status"])
def test_what_programs_ask_for_too_is_a_page_for_who_asks_for_html_alone(parts: Parts, path: str, accept: str) -> None:
    scope = {"type": "http", "app": create_app(parts), "method": "GET", "path": path}
    assert not called({**scope, "headers": [(b"accept", accept.encode())]}).is_open
    assert called({**scope, "headers": [(b"accept", b"text/html,*/*;q=0.8")]}).is_open


@pytest.mark.parametrize(
    ("method", "path", "needs", "token"),
    [
        ("POST", "/run/fal-ai/fooocus", Scope.RUN, None),
        ("POST", "/run/fal-ai/fooocus/stream", Scope.RUN, Purpose.STREAM),
        ("GET", "/queue/fal-ai/fooocus/requests/1/status", Scope.RUN, None),
        ("POST", "/rest/tokens", Scope.RUN, None),
        ("GET", "/status", Scope.ADMIN, None),
        ("POST", "/rest/storage/auth/token", Scope.STORAGE, None),
        ("POST", "/cdn/files/upload", Scope.STORAGE, Purpose.STORAGE),
        ("PUT", "/api/v1/storage/files/acl", Scope.STORAGE, None),
    ],
)
def test_a_call_means_the_route_of_its_path(
    parts: Parts, method: str, path: str, needs: Scope, token: Purpose | None
) -> None:
    found = means(parts, method, path)
    assert found.route is not None
    assert (found.route.needs, found.route.token, found.is_open) == (needs, token, False)


@pytest.mark.parametrize(("method", "reads"), [("GET", True), ("HEAD", True), ("DELETE", False), ("PUT", False)])
def test_only_reading_a_file_is_left_to_the_file(parts: Parts, method: str, reads: bool) -> None:
    assert means(parts, method, "/cdn/files/uploads/1/a.png").reads_a_file is reads


def test_an_open_path_is_open_to_a_wrong_method_too(parts: Parts) -> None:
    found = means(parts, "PUT", "/health")
    assert (found.is_open, found.has_method) == (True, False)


def test_a_path_of_no_route_is_open_to_nobody(parts: Parts) -> None:
    assert not means(parts, "GET", "/x").is_open


async def test_the_services_document_says_of_each_operation_who_may_call_it(
    client: httpx2.AsyncClient, parts: Parts
) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = {
        (method, re.sub("{number}", "1", re.sub("{(?!number)[^}]+}", "x", path))): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if path != "/api/fal/proxy"  # what it names is another route
    }
    for (method, path), operation in operations.items():
        found = means(parts, method.upper(), path)
        assert found.has_method, path
        assert found.is_open is (operation.get("security") == []), path
        if found.route is not None and not found.reads_a_file:
            by_token = {"storageToken": []} in operation.get("security", [])
            assert (found.route.token is Purpose.STORAGE) is by_token, path
    assert len(operations) > 40

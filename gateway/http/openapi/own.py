"""The operations that are not an endpoint's: health, schemas, keys of webhooks, tokens, the proxy."""

import re
from collections.abc import Sequence
from typing import Any

from gateway.http.hosts import HOSTS
from gateway.http.openapi.wording import OPEN, REQUEST_ID_HEADER, answer, json_of, parameter, ref, refusals


def own_paths(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    return {
        "/health": {"get": _read("health", "Whether the process lives.", "Health")},
        "/ready": {"get": _read("ready", "Whether it can draw.", "Readiness", "503")},
        "/openapi.json": {"get": _openapi(endpoint_ids)},
        "/.well-known/jwks.json": {"get": _read("key_set", "The public keys of webhooks.", "KeySet")},
        "/rest/.well-known/jwks.json": {"get": _read("key_set_of_rest", "The same.", "KeySet")},
        "/rest/tokens/": {"post": _token()},
        "/api/fal/proxy": {method: _proxied(method) for method in ("get", "post", "put")},
    }


def _read(name: str, summary: str, schema: str, *codes: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        **OPEN,
        "responses": {"200": answer(summary, ref(schema)), **refusals("400", "500", *codes)},
    }


def _openapi(endpoint_ids: Sequence[str]) -> dict[str, Any]:
    known = {"type": "string", "enum": [*endpoint_ids]}
    wanted = parameter("endpoint_id", "query", known, "One endpoint's document, as fal has it.")
    document = {"type": "object", "required": ["openapi", "info", "paths"]}
    return {
        "operationId": "openapi",
        "summary": "This document, or that of one endpoint.",
        **OPEN,
        "parameters": [wanted],
        "responses": {"200": answer("An OpenAPI document.", document), **refusals("400", "404", "500")},
    }


def _token() -> dict[str, Any]:
    return {
        "operationId": "token",
        "summary": "A short-lived token with which a browser streams.",
        "requestBody": {"required": True, "content": json_of(ref("TokenRequest"))},
        "responses": {
            "200": answer("The token, as fal_jwt_token.", {"type": "string"}),
            **refusals("400", "401", "403", "413", "500"),
        },
    }


def _proxied(method: str) -> dict[str, Any]:
    hosts = "|".join(map(re.escape, HOSTS))
    target = {"type": "string", "pattern": f"^https://({hosts})/[A-Za-z0-9/._-]*$"}
    return {
        "operationId": f"proxy_{method}",
        "summary": "What an address of fal's means here; nothing is forwarded.",
        "parameters": [
            parameter("X-Fal-Target-Url", "header", target, "An address of one of fal's hosts.", required=True)
        ],
        "responses": {
            **refusals("400"),
            "default": {"description": "The answer of the route that the address names.", "headers": REQUEST_ID_HEADER},
        },
    }

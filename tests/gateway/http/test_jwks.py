"""The key set stands where fal's verifiers look for it, without a key of the caller's."""

import httpx2
import pytest


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/.well-known/jwks.json", "testserver"),
        ("/rest/.well-known/jwks.json", "testserver"),
        ("/.well-known/jwks.json", "rest.fal.ai"),
        ("/.well-known/jwks.json", "rest.alpha.fal.ai"),
    ],
)
async def test_the_key_set_is_published(client: httpx2.AsyncClient, path: str, host: str) -> None:
    answer = await client.get(path, headers={"host": host})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=3600"
    (key,) = answer.json()["keys"]
    assert (key["kty"], key["crv"], "d" in key) == ("OKP", "Ed25519", False)
    assert answer.json() == (await client.get("/rest/.well-known/jwks.json")).json()

"""What the tests of uploads share: a client with keys, pictures, and each of fal's ways to upload."""

from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
from PIL import Image

from gateway.app import Parts
from gateway.files.upload_quota import UploadAccount
from gateway.ledger.store import SqlLedger
from tests.gateway.picture_files import saved

PNG = saved(Image.new("RGB", (64, 64), "red"), "PNG")


def capped(parts: Parts, ledger: SqlLedger, max_bytes: int) -> Parts:
    """They with another limit of one upload."""
    settings = parts.settings.model_copy(update={"max_upload_bytes": max_bytes})
    return replace(parts, settings=settings, uploads=UploadAccount(ledger.database, settings))


@dataclass
class Uploader:
    """One caller's way through the routes. headers: of every call that fal's clients send their key with."""

    client: httpx2.AsyncClient
    headers: dict[str, str] = field(default_factory=dict)

    async def initiate(
        self, route: str = "initiate", more: dict[str, str] | None = None, **body: Any
    ) -> httpx2.Response:
        asked = {"content_type": "image/png", "file_name": "a.png", **body}
        return await self.client.post(
            f"/rest/storage/upload/{route}", json=asked, headers={**self.headers, **(more or {})}
        )

    async def begun(self, route: str = "initiate", more: dict[str, str] | None = None, **body: Any) -> dict[str, str]:
        answer = await self.initiate(route, more, **body)
        assert answer.status_code == 200, answer.text
        found: dict[str, str] = answer.json()
        return found

    async def whole(self, content: bytes, more: dict[str, str] | None = None, **body: Any) -> str:
        """As `@fal-ai/client` does it; the file's address."""
        begun = await self.begun("initiate", more, **body)
        answer = await self.client.put(begun["upload_url"], content=content, headers={"content-type": "image/png"})
        assert answer.status_code == 200, answer.text
        return begun["file_url"]

    async def token(self) -> dict[str, str]:
        answer = await self.client.post(
            "/rest/storage/auth/token?storage_type=fal-cdn-v3", json={}, headers=self.headers
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, str] = answer.json()
        return {"authorization": f"{found['token_type']} {found['token']}"}


def beside(upload_url: str, rest: str) -> str:
    """The address of a part: between path and query, as the JavaScript client makes it."""
    parts = urlsplit(upload_url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}/{rest}?{parts.query}"


def in_fals_shape(answer: httpx2.Response, status: int) -> bool:
    body = answer.json()
    return answer.status_code == status and bool(body["detail"]) and bool(body["error_type"])

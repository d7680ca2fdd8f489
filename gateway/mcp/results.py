"""What tools answer: JSON as text and as structure, pictures as images beside it."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.types import CallToolResult, ContentBlock, ImageContent, TextContent

from gateway.errors import ServiceError
from gateway.http.outputs import DATA


def told(found: Mapping[str, Any], images: Sequence[ImageContent] = ()) -> CallToolResult:
    content: list[ContentBlock] = [*images, _text(found)]
    return CallToolResult(content=content, structured_content=dict(found))


def refused(status: int, body: Mapping[str, Any]) -> CallToolResult:
    """A fault, as fal's routes would answer it."""
    found = {"status_code": status, **body}
    return CallToolResult(content=[_text(found)], structured_content=found, is_error=True)


def refusal_of(error: ServiceError) -> CallToolResult:
    return refused(error.status, error.body())


def without_data(output: Mapping[str, Any]) -> dict[str, Any]:
    """An output whose pictures are addresses alone: those that are inside it come as images."""
    images = [
        {**image, "url": f"{image['url'].partition(',')[0]},…"} if image["url"].startswith(DATA) else image
        for image in output["images"]
    ]
    return {**output, "images": images}


async def image_of(content: bytes, content_type: str) -> ImageContent:
    data = await asyncio.to_thread(lambda: base64.b64encode(content).decode("ascii"))
    return ImageContent(data=data, mime_type=content_type)


def _text(found: Mapping[str, Any]) -> TextContent:
    return TextContent(text=json.dumps(found, ensure_ascii=False))

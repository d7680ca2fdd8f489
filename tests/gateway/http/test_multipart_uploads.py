"""Uploads in parts, as the JavaScript and the Python client send them: in any order, again, whole or not at all."""

import asyncio
from typing import Any

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.ledger.store import SqlLedger
from tests.gateway.http.storing import PNG, Uploader, beside, capped, in_fals_shape

CAP = 2_000
PIECES = (PNG[:50], PNG[50:90], PNG[90:])


@pytest.fixture
def parts(parts: Parts, ledger: SqlLedger) -> Parts:
    return capped(parts, ledger, CAP)


class Sending:
    """One upload in parts. base: where its parts go; a rest (a number, `complete`) gives an address."""

    def __init__(self, up: Uploader, url: str, signed: str) -> None:
        self.client, self.url, self._signed = up.client, url, signed

    def at(self, rest: str) -> str:
        return beside(self._signed, rest) if "?" in self._signed else f"{self._signed}/{rest}"

    async def part(self, number: int | str, content: bytes) -> httpx2.Response:
        return await self.client.put(self.at(str(number)), content=content)

    async def sent(self, *numbers: int) -> list[dict[str, Any]]:
        return [(await self.part(number, PIECES[number - 1])).json() for number in numbers]

    async def complete(self, listed: Any) -> httpx2.Response:
        return await self.client.post(self.at("complete"), json={"parts": listed})


@pytest.fixture(params=["javascript", "python"])
async def sending(up: Uploader, request: pytest.FixtureRequest) -> Sending:
    return await _begun(up, request.param)


async def _begun(up: Uploader, client: str) -> Sending:
    if client == "javascript":
        begun = await up.begun("initiate-multipart?storage_type=fal-cdn-v3")
        return Sending(up, begun["file_url"], begun["upload_url"])
    headers = {"x-fal-file-name": "a.png", "content-type": "image/png"}
    found = (await up.client.post("/cdn/files/upload/multipart", headers=headers)).json()
    return Sending(up, found["access_url"], f"{found['access_url']}/multipart/{found['uploadId']}")


async def test_parts_in_any_order_become_the_file(sending: Sending) -> None:
    listed = await sending.sent(3, 1, 2)
    assert (await sending.client.get(sending.url)).status_code == 404
    assert (await sending.complete(listed)).json()["access_url"] == sending.url
    answer = await sending.client.get(sending.url)
    assert (answer.content, answer.headers["content-type"]) == (PNG, "image/png")


async def test_a_part_answers_in_header_and_body(sending: Sending) -> None:
    answer = await sending.part(1, PIECES[0])
    assert answer.json()["partNumber"] == 1
    assert answer.headers["etag"] == f'"{answer.json()["etag"]}"'


async def test_a_part_may_be_sent_again(sending: Sending) -> None:
    await sending.part(2, b"what was cut off")
    await sending.sent(1, 1)
    assert (await sending.complete(await sending.sent(3, 2, 1))).is_success
    assert (await sending.client.get(sending.url)).content == PNG


async def test_python_quotes_the_etags_as_it_got_them(sending: Sending) -> None:
    listed = [{**part, "etag": f'"{part["etag"]}"'} for part in await sending.sent(1, 2, 3)]
    assert (await sending.complete(listed)).is_success


async def test_completing_again_answers_the_same(sending: Sending, parts: Parts) -> None:
    listed = await sending.sent(1, 2, 3)
    answers = [await sending.complete(listed) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    late = await sending.part(1, b"late and different")
    assert late.is_success
    assert (await sending.client.get(sending.url)).content == PNG
    assert not await asyncio.to_thread((parts.settings.data_dir / "files" / "staging").exists)


async def test_completing_twice_at_once_answers_the_same(sending: Sending) -> None:
    listed = await sending.sent(1, 2, 3)
    answers = await asyncio.gather(*(sending.complete(listed) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await sending.client.get(sending.url)).content == PNG


async def test_a_restart_loses_no_part(sending: Sending, parts: Parts) -> None:
    listed = await sending.sent(1, 2)
    transport = httpx2.ASGITransport(app=create_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver:8000") as client:
        sending.client = client
        listed += await sending.sent(3)
        assert (await sending.complete(listed)).is_success
        assert (await client.get(sending.url)).content == PNG


@pytest.mark.parametrize(
    "change",
    [
        lambda listed: listed[:2],
        lambda listed: [],
        lambda listed: [*listed, listed[0]],
        lambda listed: [*listed, {"partNumber": 4, "etag": "x"}],
        lambda listed: [{**listed[0], "etag": "wrong"}, *listed[1:]],
        lambda listed: [{**listed[0], "partNumber": "1"}, *listed[1:]],
        lambda listed: [{**listed[0], "partNumber": True}, *listed[1:]],
        lambda listed: [{"partNumber": 1}, *listed[1:]],
        lambda listed: ["x"],
        lambda listed: "x",
        lambda listed: None,
    ],
)
async def test_a_wrong_list_of_parts_is_refused_and_may_be_mended(sending: Sending, change: Any) -> None:
    listed = await sending.sent(1, 2, 3)
    assert in_fals_shape(await sending.complete(change(listed)), 400)
    assert (await sending.client.get(sending.url)).status_code == 404
    assert (await sending.complete(listed)).is_success


async def test_a_gap_between_parts_is_refused(sending: Sending) -> None:
    assert in_fals_shape(await sending.complete(await sending.sent(1, 3)), 400)


@pytest.mark.parametrize("number", ["0", "10001", "-1", "1.5", "x", "9" * 20, "%00", "٣"])
async def test_a_part_number_out_of_range_is_refused(sending: Sending, number: str) -> None:
    assert in_fals_shape(await sending.part(number, PNG), 400)


async def test_an_empty_part_is_refused(sending: Sending) -> None:
    assert in_fals_shape(await sending.part(1, b""), 400)


async def test_parts_are_capped_together(sending: Sending) -> None:
    half = bytes(CAP // 2)
    for number in (1, 2, 2):
        assert (await sending.part(number, half)).is_success
    assert in_fals_shape(await sending.part(3, b"x"), 413)
    assert in_fals_shape(await sending.part(1, bytes(CAP + 1)), 413)


async def test_another_upload_has_other_parts(up: Uploader) -> None:
    one, two = await _begun(up, "javascript"), await _begun(up, "python")
    listed = await one.sent(1, 2, 3)
    assert in_fals_shape(await two.complete(listed), 400)
    path, query = one.at("1").split("?")
    other = (await _begun(up, "javascript")).at("1").partition("?")[2]
    assert query != other
    assert in_fals_shape(await up.client.put(f"{path}?{other}", content=PNG), 403)


async def test_the_address_of_parts_takes_no_whole(up: Uploader) -> None:
    begun = await up.begun("initiate-multipart")
    assert in_fals_shape(await up.client.put(begun["upload_url"], content=PNG), 403)

"""What a soak asks, in which order, and how it says what came of it."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import fal_client
import httpx
import pytest
from fal_client.client import FalClientHTTPError

from benchmarks.soak.__main__ import asked, parse
from benchmarks.soak.clients import KINDS, OK, Clients, Kind, Told, in_rounds, reason
from benchmarks.soak.pictures import Server


def http_error(status: int, body: Any, error_type: str | None = None) -> FalClientHTTPError:
    return FalClientHTTPError("no", status, {}, httpx.Response(status, json=body), error_type)


def kind(do: Any, *ends: str) -> Kind:
    return Kind("one", do, frozenset(ends))


@pytest.fixture
def clients() -> Iterator[Clients]:
    server = Server({})
    server.start()
    yield Clients(fal_client.AsyncClient(key="any:key"), httpx.AsyncClient(), server)
    server.stop()


def test_every_round_has_each_kind_as_often_as_it_weighs() -> None:
    size = sum(one.weight for one in KINDS)
    first, second = _rounds(size)
    for round_ in (first, second):
        assert Counter(round_) == Counter({one: one.weight for one in KINDS})
    assert first != second
    assert first == _rounds(size)[0]


def _rounds(size: int) -> tuple[list[Kind], list[Kind]]:
    found = list(islice(in_rounds(1), 2 * size))
    return found[:size], found[size:]


def test_a_refusal_is_named_by_the_first_field_that_it_names() -> None:
    assert reason(http_error(422, {"detail": [{"type": "image_load_error"}]})) == "422 image_load_error"


def test_an_end_without_fields_is_named_by_its_type() -> None:
    assert reason(http_error(499, {"detail": "cancelled"}, "client_cancelled")) == "client_cancelled"


async def test_an_end_that_is_none_of_its_kind_is_wrong(clients: Clients) -> None:
    async def fails(_: Clients, number: int) -> str:
        raise http_error(500, {"detail": "broken"})

    told = await clients.ask(kind(fails, OK), 0)
    assert (told.end, told.is_right) == ("500 no", False)


async def test_a_connection_that_breaks_is_told_and_ends_no_soak(clients: Clients) -> None:
    async def breaks(_: Clients, number: int) -> str:
        raise httpx.ReadError("gone")

    assert (await clients.ask(kind(breaks, OK), 0)).end == "ReadError: gone"


def test_the_table_counts_ends_and_says_which_kinds_ended_otherwise() -> None:
    first, second = KINDS[:2]
    told = [Told(first, OK, 1.0), Told(first, OK, 3.0), Told(second, "500 no", 2.0)]
    rows = asked(told).rows
    assert [(row["asked"], row["ended"], row["as they should"]) for row in rows] == [
        (2, "ok 2", "yes"),
        (1, "500 no 1", "no"),
    ]


def test_the_warm_minute_must_come_before_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--minutes", "5"])
    assert "--warm" in capsys.readouterr().err


def test_a_failed_verdict_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.soak import __main__ as program

    found: list[str] = ["Gateway: own memory in MiB 100 when warm, 120 at the end"]
    monkeypatch.setattr(program, "run", lambda _: found)
    assert program.main([]) == 1
    found.clear()
    assert program.main([]) == 0

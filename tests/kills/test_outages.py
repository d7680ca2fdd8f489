"""A bucket or a database that is gone or hangs under requests in every state: callers are told, and nothing is lost."""

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from gateway.files.availability import EVERY_S
from tests.cluster import LEASE_S, free_port
from tests.deployments.fakes import wait_until
from tests.gateway.fakes import PIXEL
from tests.gateway.files import s3_server
from tests.gateway.ledger import postgresql
from tests.integration.calls import FAST, FAST_IMAGE_TO_IMAGE
from tests.kills.client import PATIENCE_S, Asking, Receiver, receiver
from tests.kills.holding import FREE
from tests.kills.service import Served

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(600)]

LEASES = 3  # for so many a store is away
RUNS, HELD, WAITING = 3, 5, 20  # sync runs; queued requests that are all held; so many that some of them wait
MEANWHILE = 4
ASKED: Mapping[str, Any] = {"prompt": "a cube", "num_inference_steps": 4, "image_size": "square"}
SECONDS = pytest.mark.parametrize("seconds", [LEASES * LEASE_S, 60.0])


@dataclass(frozen=True)
class Stores:
    """The service, the stores that it needs, and where its webhooks come to. ledger: the address of its database."""

    served: Served
    database: postgresql.Server
    bucket: s3_server.S3Server
    ledger: str
    hook: Receiver

    def rows(self, names: Sequence[str]) -> list[tuple[str, int, int, int]]:
        """State, attempts, retries and crashes of each."""
        with psycopg.connect(self.ledger) as connection:
            found = connection.execute(
                "SELECT state, attempt, retries, crashes FROM request WHERE id = ANY(%s)", [[*names]]
            )
            return found.fetchall()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Iterator[Stores]:
    with postgresql.serving() as database, s3_server.serving() as bucket, receiver() as hook:
        ledger = database.create("outages")
        gateway = {
            "ledger_url": ledger,
            "token_secret": "s" * 32,
            "webhook_keys": [base64.b64encode(b"k" * 32).decode()],
            "files_url": f"s3://{s3_server.BUCKET}/outages",
            "files_endpoint_url": bucket.endpoint_url,
            "lease_s": LEASE_S,
        }
        folder, secrets = tmp_path_factory.mktemp("outages"), bucket.environment()
        served = Served.start(folder, free_port(), "fake", pocket_family_folder, gateway=gateway, environment=secrets)
        yield Stores(served, database, bucket, ledger, hook)
        served.stop()


@pytest.fixture
def client(stores: Stores) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=stores.served.address, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


@dataclass
class Asked:
    """What was asked for before and during an outage. seeds: of each queued request."""

    runs: list[Future[httpx2.Response]] = field(default_factory=list)
    seeds: dict[str, int] = field(default_factory=dict)


@contextmanager
def under_way(stores: Stores, client: httpx2.Client, queued: int) -> Iterator[Asked]:
    """Sync runs and `queued` requests, of which the first are held by the engine."""
    wait_until(lambda: not open_requests(client), PATIENCE_S)  # of a test that has failed
    stores.served.hold.touch()
    asked = Asked()
    with ThreadPoolExecutor(RUNS) as calls:
        try:
            seeds = range(FREE, FREE + RUNS)
            asked.runs = [calls.submit(client.post, f"/{FAST}", json={**ASKED, "seed": seed}) for seed in seeds]
            wait_until(lambda: in_progress(client) == RUNS)
            for _ in range(queued):
                submit_one(stores, client, asked)
            wait_until(lambda: in_progress(client) >= RUNS + min(queued, HELD))
            yield asked
        finally:
            stores.served.hold.unlink(missing_ok=True)


def submit_one(stores: Stores, client: httpx2.Client, asked: Asked) -> None:
    seed = FREE + RUNS + len(asked.seeds)
    answer = client.post(f"/queue/{FAST}", json={**ASKED, "seed": seed}, params={"fal_webhook": stores.hook.url})
    assert answer.status_code == 200, answer.text
    asked.seeds[answer.json()["request_id"]] = seed


def open_requests(client: httpx2.Client) -> Sequence[str]:
    """The states of all that have not ended."""
    listed = client.get("/queue/requests", params={"limit": 100}).json()["requests"]
    return [one["status"] for one in listed if one["status"] != "COMPLETED"]


def in_progress(client: httpx2.Client) -> int:
    return open_requests(client).count("IN_PROGRESS")


def check_that_all_end_well(stores: Stores, asked: Asked) -> None:
    """Each with its own picture, drawn at its first attempt, and told once."""
    answers = [run.result() for run in asked.runs]
    assert [answer.status_code for answer in answers] == [200] * RUNS, [answer.text for answer in answers]
    with Asking(stores.served.address) as client:
        for name, seed in asked.seeds.items():
            wait_until(lambda name=name: client.state(name) == "COMPLETED", PATIENCE_S)  # type: ignore[misc]
            code, body = client.result(name)
            assert (code, body.get("seed")) == (200, seed), body
    wait_until(lambda: {*asked.seeds} <= {*stores.hook.heard}, PATIENCE_S)
    assert {name: stores.hook.heard[name] for name in asked.seeds} == dict.fromkeys(asked.seeds, 1)
    names = [*asked.seeds, *(answer.headers["x-fal-request-id"] for answer in answers)]
    assert stores.rows(names) == [("done", 1, 0, 0)] * len(names)


def check_that_it_is_refused_for_now(answer: httpx2.Response, store: str) -> None:
    assert (answer.status_code, answer.json()["error_type"]) == (503, "runner_connection_error"), answer.text
    assert answer.headers["x-fal-retryable"] == "true"
    assert store in answer.json()["detail"]


def wait_until_it_is_known(client: httpx2.Client, store: str) -> None:
    """Until `/ready` says that `store` is away."""
    wait_until(lambda: client.get("/ready").status_code == 503)
    check_that_it_is_refused_for_now(client.get("/ready"), store)


@contextmanager
def bucket_gone(stores: Stores) -> Iterator[None]:
    stores.bucket.kill()
    try:
        yield
    finally:
        stores.bucket.start()


@contextmanager
def bucket_hanging(stores: Stores) -> Iterator[None]:
    stores.bucket.hang()
    try:
        yield
    finally:
        stores.bucket.resume()


@contextmanager
def database_gone(stores: Stores) -> Iterator[None]:
    stores.database.stop()
    try:
        yield
    finally:
        stores.database.start()


def database_hanging(stores: Stores) -> AbstractContextManager[None]:
    return stores.database.suspended()


@SECONDS
@pytest.mark.parametrize("away", [bucket_gone, bucket_hanging])
def test_requests_outlive_a_bucket_that_is_away(
    stores: Stores, client: httpx2.Client, away: Any, seconds: float
) -> None:
    with under_way(stores, client, HELD) as asked, ThreadPoolExecutor(1) as other:
        logs, begun = sizes(stores), time.monotonic()
        with away(stores):
            picture = {**ASKED, "image_url": PIXEL}
            refused = other.submit(client.post, f"/queue/{FAST_IMAGE_TO_IMAGE}", json=picture)
            wait_until_it_is_known(client, "files")
            time.sleep(EVERY_S)  # for so long the dispatcher may go by what it knew
            before = {*asked.seeds}
            for _ in range(MEANWHILE):
                submit_one(stores, client, asked)
            stores.served.hold.unlink()
            check_that_it_is_refused_for_now(refused.result(), "files")
            time.sleep(max(0.0, begun + seconds - time.monotonic()))
            assert not any(run.done() for run in asked.runs)
            assert stores.rows([*asked.seeds.keys() - before]) == [("queued", 0, 0, 0)] * MEANWHILE
        check_that_all_end_well(stores, asked)
        check_that_little_was_logged(logs, time.monotonic() - begun)
    wait_until(lambda: client.get("/ready").status_code == 200)


@SECONDS
@pytest.mark.parametrize("away", [database_gone, database_hanging])
def test_requests_outlive_a_ledger_that_is_away(
    stores: Stores, client: httpx2.Client, away: Any, seconds: float
) -> None:
    with under_way(stores, client, WAITING) as asked, ThreadPoolExecutor(2) as others:
        logs, begun = sizes(stores), time.monotonic()
        with away(stores):
            name = next(iter(asked.seeds))
            calls = {
                "submit": partial(client.post, f"/queue/{FAST}", json=dict(ASKED)),
                "status": partial(client.get, f"/queue/{FAST}/requests/{name}/status"),
            }
            refused = [others.submit(answers_until, begun + seconds, call) for call in calls.values()]
            wait_until_it_is_known(client, "ledger")
            stores.served.hold.unlink()
            for answers in refused:
                for answer in answers.result():
                    check_that_it_is_refused_for_now(answer, "ledger")
            assert not any(run.done() for run in asked.runs)
        check_that_all_end_well(stores, asked)
        check_that_little_was_logged(logs, time.monotonic() - begun)
    wait_until(lambda: client.get("/ready").status_code == 200)


def answers_until(end: float, call: Any) -> list[httpx2.Response]:
    """One at least."""
    answers = [call()]
    while time.monotonic() < end:
        time.sleep(0.2)
        answers.append(call())
    return answers


def sizes(stores: Stores) -> Mapping[Path, int]:
    """Of the log of each replica, in bytes."""
    return {log: log.stat().st_size for log in stores.served.replica_logs()}


def check_that_little_was_logged(before: Mapping[Path, int], seconds: float) -> None:
    """In each log since it had its size of `before`: a warning a second at most, and no traceback."""
    for log, size in before.items():
        with log.open("rb") as file:
            file.seek(size)
            lines = file.read().decode().splitlines()
        faults = [line for line in lines if '"levelname": "INFO"' not in line]
        assert len(faults) < seconds, (log.name, faults)
        assert not [line for line in lines if "Traceback" in line]

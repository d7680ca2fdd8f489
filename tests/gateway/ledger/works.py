"""Works and a clock for the ledger's tests."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, create_engine, make_url

from gateway.ledger.models import Answer, Claim, Outcome, State
from gateway.ledger.store import SqlLedger
from gateway.work import Delivery, Work
from pipelines.spec import Guidance, Spec

APP = "fal-ai/fooocus"
OK = Answer(200, {"images": []}, {"x-fal-retryable": "false"})
FAULT = Answer(503, {"detail": "gone"}, {"x-fal-retryable": "true"}, "gone", "runner_connection_error")


class Clock:
    """A time of day that stands still until somebody turns it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def engine_of(url: str) -> Engine:
    """What talks to the ledger's database without the ledger."""
    driver = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}[make_url(url).get_backend_name()]
    return create_engine(make_url(url).set(drivername=driver))


def work(name: str, endpoint: str = APP) -> Work:
    return Work(
        request_id=name,
        endpoint=endpoint,
        spec=Spec(prompt="a red cube", seeds=(7,), steps=4, sampler="euler", schedule="lcm", guidance=Guidance()),
        delivery=Delivery(format="jpeg"),
        base_url="http://127.0.0.1:8000",
    )


async def claimed(ledger: SqlLedger, name: str, owner: str = "one", lease_s: float = 60) -> Claim:
    await ledger.submit(work(name), APP)
    (claim,) = await ledger.claim(owner, 1, lease_s)
    return claim


async def state(ledger: SqlLedger, name: str) -> tuple[State, Outcome | None]:
    status = await ledger.status(name, APP)
    assert status is not None
    return status.state, status.outcome


async def position(ledger: SqlLedger, name: str) -> int | None:
    status = await ledger.status(name, APP)
    assert status is not None
    return status.position

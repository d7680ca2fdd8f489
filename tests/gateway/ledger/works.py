"""Works for the ledger's tests."""

from gateway.ledger.base import Answer
from gateway.work import Delivery, Work
from pipelines.spec import Guidance, Spec

APP = "fal-ai/fooocus"
OK = Answer(200, {"images": []}, {"x-fal-retryable": "false"})


def work(name: str) -> Work:
    return Work(
        request_id=name,
        endpoint=APP,
        spec=Spec(prompt="a red cube", seeds=(7,), steps=4, sampler="euler", schedule="lcm", guidance=Guidance()),
        delivery=Delivery(format="jpeg"),
        base_url="http://127.0.0.1:8000",
    )

"""What the tests of the graph through real Ray handles share: its works, and a run of one."""

from typing import Any
from uuid import uuid4

from gateway.work import Delivery, Finished, Step, Work
from pipelines.images.face import FaceFinder
from pipelines.prompts.expanding import Fits
from pipelines.spec import Guidance, Size, Spec
from tests.detector import DETECTOR

APP = "graph"
SIDE = 256


def work(prompt: str = "a red cube", **of_spec: Any) -> Work:
    spec = Spec(
        **{
            "prompt": prompt,
            "size": Size(width=SIDE, height=SIDE),
            "seeds": (7,),
            "steps": 20,
            "sampler": "euler",
            "schedule": "sgm_uniform",
            "guidance": Guidance(scale=4.0),
            **of_spec,
        }
    )
    return Work(
        request_id=str(uuid4()),
        endpoint="fal-ai/fooocus",
        spec=spec,
        delivery=Delivery(format="png"),
        base_url="http://127.0.0.1:8000",
    )


def open_faces() -> FaceFinder | None:
    return FaceFinder(DETECTOR) if DETECTOR.is_file() else None


def open_fits() -> Fits:
    return lambda texts: True


async def run(stages: Any, request: Work) -> tuple[list[Step], Finished]:
    from deployments.graph import Graph

    events = [event async for event in Graph(stages).run(request)]
    assert isinstance(events[-1], Finished)
    return [event for event in events if isinstance(event, Step)], events[-1]

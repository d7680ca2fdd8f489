"""Replicas of a real cluster draw what the dispatcher has chosen them for."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from gateway.files.names import OutputNames
from gateway.files.store import FileStore
from gateway.settings import OutputSettings
from gateway.work import Work
from pipelines.spec import Lora
from tests.deployments.fakes import FakeCatalogue, FakeFinder, FakePictures, FakeWeights, no_models
from tests.deployments.graph_on_ray import open_faces, work

APP = "placed"
ROWS = 4
pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture(scope="module")
def dispatcher(cluster: int, files: FileStore) -> Iterator[Any]:
    from ray import serve

    from deployments.diffuser import Diffuser
    from deployments.graph import Stages
    from deployments.placement import defaults_of
    from deployments.postprocessor import Postprocessor
    from deployments.preprocessor import Preprocessor
    from tests.deployments.placed_graph import Dispatcher, ForgetfulDrawer

    def bound(cls: type, *args: Any, **options: Any) -> Any:
        quick = {"graceful_shutdown_timeout_s": 0.1, "ray_actor_options": {"num_cpus": 0.1}}
        return serve.deployment(name=cls.__name__, max_ongoing_requests=300, **quick, **options)(cls).bind(*args)

    router = defaults_of("Diffuser")["request_router_config"]

    nobody = bound(FakeWeights)
    stages = Stages(
        preprocessor=bound(Preprocessor, FakePictures, FakeCatalogue, FakeFinder, open_faces),
        prompt_expander=nobody,
        diffuser=bound(Diffuser, ForgetfulDrawer, ROWS, FakeWeights, num_replicas=3, request_router_config=router),
        safety_checker=nobody,
        postprocessor=bound(Postprocessor, files, partial(OutputNames, b"s" * 32), 30.0, OutputSettings(), no_models),
        expanding_limit_s=10,
    )
    handle = serve.run(bound(Dispatcher, stages), name=APP, route_prefix=None)
    end = time.monotonic() + 60
    while handle.living.remote().result() < 3:
        assert time.monotonic() < end, "not all replicas report"
        time.sleep(0.1)
    yield handle
    serve.delete(APP)


def works(number: int) -> list[Work]:
    """Of three bases, in any order, two rows each."""
    chance = random.Random(7)
    bases = [Lora(source=f"mode{each}.safetensors", scale=1.0, performance=True) for each in range(3)]
    return [work(loras=(chance.choice(bases),), steps=8, check_safety=False) for _ in range(number)]


def test_most_are_drawn_by_a_replica_that_had_their_base_and_all_replicas_draw(dispatcher: Any) -> None:
    said = dispatcher.draw.remote(works(120), placed=True).result(timeout_s=120)
    assert sum("had it" in each for each in said) >= 0.9 * len(said)
    assert min(Counter(each.split()[0] for each in said).values()) >= 25
    assert len({each.split()[0] for each in said}) == 3
    by_chance = dispatcher.draw.remote(works(120), placed=False).result(timeout_s=120)
    assert sum("had it" in each for each in by_chance) < 0.8 * len(by_chance)

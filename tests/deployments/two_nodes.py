"""A program: draws through stages on one node from a graph on another, and prints where the arrays were.

Apart from the tests, for a process has one cluster, and theirs is of one node.
"""

import asyncio
import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.experimental import get_object_locations

from deployments.diffuser import Diffuser
from deployments.graph import Stages
from deployments.postprocessor import Postprocessor
from deployments.preprocessor import Preprocessor
from deployments.safety_checker import SafetyChecker
from gateway.files.backends import LocalFiles
from gateway.files.names import OutputNames
from gateway.settings import OutputSettings
from pipelines.spec import Size, Start
from tests.deployments.fakes import (
    FakeCatalogue,
    FakeDrawer,
    FakeFinder,
    FakePictures,
    FakeWeights,
    fake_checkers,
    no_models,
)
from tests.deployments.graph_on_ray import APP, run, work
from tests.deployments.root import Root

STAGES = "stages"  # a resource that only the other node has
STORE_BYTES = 150 * 2**20


class Kept:
    """A handle that keeps the arguments of its calls, of whichever method."""

    def __init__(self, handle: Any, given: list[Any]) -> None:
        self._handle, self.given = handle, given

    def options(self, **options: Any) -> "Kept":
        return Kept(self._handle.options(**options), self.given)

    def __getattr__(self, method: str) -> "Kept":
        return Kept(getattr(self._handle, method), self.given)

    def remote(self, *given: Any) -> Any:
        self.given += given
        return self._handle.remote(*given)


def bound(cls: type, *args: Any) -> Any:
    options: dict[str, Any] = {"num_cpus": 0.1, "resources": {STAGES: 0.1}}
    return serve.deployment(name=cls.__name__, ray_actor_options=options)(cls).bind(*args)


def deployed(folder: Path) -> Stages:
    files = LocalFiles(folder)
    applications = Stages(
        preprocessor=bound(Preprocessor, FakePictures, FakeCatalogue, FakeFinder),
        prompt_expander=None,
        diffuser=bound(Diffuser, FakeDrawer, 8, FakeWeights),
        safety_checker=bound(SafetyChecker, fake_checkers),
        postprocessor=bound(Postprocessor, files, partial(OutputNames, b"s" * 32), 30.0, OutputSettings(), no_models),
        expanding_limit_s=10,
    )
    serve.run(bound(Root, applications), name=APP, route_prefix=None)
    return Stages(
        preprocessor=serve.get_deployment_handle("Preprocessor", APP),
        prompt_expander=None,
        diffuser=serve.get_deployment_handle("Diffuser", APP),
        safety_checker=serve.get_deployment_handle("SafetyChecker", APP),
        postprocessor=serve.get_deployment_handle("Postprocessor", APP),
        expanding_limit_s=10,
    )


async def drawn(stages: Stages) -> dict[str, Any]:
    """Of the inputs and the pixels: their bytes and the nodes whose stores have held them."""
    drawing, delivering = Kept(stages.diffuser, []), Kept(stages.postprocessor, [])
    size = Size(width=512, height=512)
    request = work(size=size, pictures=(Start(source="a start", strength=0.5, field="f"),))
    await run(replace(stages, diffuser=drawing, postprocessor=delivering), request)
    (pixels,) = (each for each in delivering.given if isinstance(each, ray.ObjectRef))
    (inputs,) = [await each._to_object_ref() for each in drawing.given if hasattr(each, "_to_object_ref")]
    found = get_object_locations([pixels, inputs])
    return {name: found[reference] for name, reference in (("pixels", pixels), ("inputs", inputs))}


def main() -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": STORE_BYTES, "include_dashboard": False},
    )
    cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES, resources={STAGES: 1})
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, namespace="serve")
    serve.start(proxy_location="Disabled")
    try:
        here = ray.get_runtime_context().get_node_id()
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(drawn(deployed(Path(folder))))
        print(json.dumps({"here": here, **found}))
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()

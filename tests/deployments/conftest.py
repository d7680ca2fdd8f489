"""The deployments of the graph on the cluster, with a drawer that needs no weights, once for all files."""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from deployments.logs import OURS, SERVES
from gateway.files.names import OutputNames
from gateway.files.store import FileStore
from gateway.settings import OutputSettings
from pipelines.prompts.phrasebook import Phrasebook
from tests.deployments.fakes import (
    FakeCatalogue,
    FakeDrawer,
    FakeExpander,
    FakeFinder,
    FakePictures,
    FakeWeights,
    fake_checkers,
    no_models,
)
from tests.deployments.graph_on_ray import APP, open_faces, open_fits
from tests.gateway.files.away import AwayBlobs


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Puts the loggers back that a replica's constructor changes, for this process is not its alone."""
    kept = [logging.getLogger(name) for name in (OURS, SERVES)]
    before = [(each.handlers[:], each.filters[:], each.level) for each in kept]
    yield
    for each, (handlers, filters, level) in zip(kept, before, strict=True):
        each.handlers, each.filters = handlers, filters
        each.setLevel(level)


@pytest.fixture(scope="package")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> AwayBlobs:
    return AwayBlobs(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="package")
def files(blobs: AwayBlobs) -> FileStore:
    return FileStore(blobs)


@pytest.fixture(scope="package")
def stages(cluster: int, files: FileStore) -> Iterator[Any]:
    from ray import serve

    from deployments.diffuser import Diffuser
    from deployments.graph import Stages
    from deployments.postprocessor import Postprocessor
    from deployments.preprocessor import Preprocessor
    from deployments.prompt_expander import PromptExpander
    from deployments.safety_checker import SafetyChecker
    from tests.deployments.root import Root

    def bound(cls: type, *args: Any) -> Any:
        options = {
            "graceful_shutdown_timeout_s": 0.1,
            "health_check_period_s": 1,
            "max_ongoing_requests": 50,
            "ray_actor_options": {"num_cpus": 0.1},
        }
        return serve.deployment(name=cls.__name__, **options)(cls).bind(*args)

    applications = Stages(
        preprocessor=bound(Preprocessor, FakePictures, FakeCatalogue, FakeFinder, open_faces),
        prompt_expander=bound(PromptExpander, FakeExpander, Phrasebook, open_fits),
        diffuser=bound(Diffuser, FakeDrawer, 8, FakeWeights),
        safety_checker=bound(SafetyChecker, fake_checkers),
        postprocessor=bound(Postprocessor, files, partial(OutputNames, b"s" * 32), 30.0, OutputSettings(), no_models),
        expanding_limit_s=10,
    )
    serve.run(bound(Root, applications), name=APP, route_prefix=None)
    yield Stages(
        preprocessor=serve.get_deployment_handle("Preprocessor", APP),
        prompt_expander=serve.get_deployment_handle("PromptExpander", APP),
        diffuser=serve.get_deployment_handle("Diffuser", APP),
        safety_checker=serve.get_deployment_handle("SafetyChecker", APP),
        postprocessor=serve.get_deployment_handle("Postprocessor", APP),
        expanding_limit_s=10,
    )
    serve.delete(APP)

"""The app: which deployments there are and how they are bound together."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import ray
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.context import _get_global_client

from deployments.diffuser import Diffuser, drawer_of
from deployments.dispatcher import Dispatcher
from deployments.gateway import Gateway, door_of
from deployments.graph import Stages
from deployments.one_machine import check_cluster, open_at_home
from deployments.placement import Options, placed
from deployments.postprocessor import Postprocessor, models_of
from deployments.preprocessor import Preprocessor, catalogue_of, faces_of, pictures_of
from deployments.prompt_expander import PromptExpander, expander_of, fits_of
from deployments.replica import open_on
from deployments.safety_checker import SafetyChecker, checkers_of
from deployments.settings import AppSettings
from deployments.weights import finder_of, weights_of_node
from gateway.files.backends import files_of
from gateway.files.names import OutputNames

Opened = TypeVar("Opened")

IMPORT_PATH = "deployments.app:build_app"  # in config files


def build_app(settings: AppSettings) -> Application:
    """The whole service; the ingress is the Gateway. Serve puts what a config file lists in the place of the defaults
    of its deployments.

    Raises ValueError where several nodes of the cluster would have a state each.
    """
    check_cluster(settings.gateway, partial(options_in_cluster, settings))
    return place_app(settings, placed([]))


def options_in_cluster(settings: AppSettings) -> Mapping[str, Options]:
    """Of each deployment, as Serve will have it: Serve does not tell a builder what the config file lists."""
    client: Any = _get_global_client(raise_if_no_controller_running=False)
    files = {} if client is None else ray.get(client._controller.get_app_configs.remote())
    mine = (file for file in files.values() if file.import_path == IMPORT_PATH)
    return placed(next((file.deployments for file in mine if AppSettings.model_validate(file.args) == settings), []))


def place_app(settings: AppSettings, options: Mapping[str, Options]) -> Application:
    """The whole service with these options of each deployment."""

    def deploy(cls: type[Any]) -> Deployment:
        return serve.deployment(name=cls.__name__, **options[cls.__name__])(cls)

    def on_device(setting: str, opener: Callable[[], Opened]) -> Callable[[], Opened]:
        return partial(open_on, setting, *settings.devices()[setting], opener)

    def at_home(deployment: str, opener: Callable[[], Opened]) -> Callable[[], Opened]:
        return partial(open_at_home, settings.gateway, deployment, opener)

    files = files_of(settings.gateway)
    stages = Stages(
        preprocessor=deploy(Preprocessor).bind(
            at_home("Preprocessor", partial(pictures_of, settings.gateway)),
            partial(catalogue_of, settings.drawing),
            partial(finder_of, settings.gateway, settings.weights),
            partial(faces_of, settings.drawing),
            settings.drawing.phrasebook,
        ),
        prompt_expander=deploy(PromptExpander).bind(
            on_device("expanding.device", partial(expander_of, settings.drawing, settings.expanding)),
            settings.drawing.phrasebook,
            partial(fits_of, settings.drawing),
        ),
        diffuser=deploy(Diffuser).bind(
            on_device("drawing.device", partial(drawer_of, settings.drawing)),
            settings.drawing.rows,
            partial(weights_of_node, settings.gateway, settings.weights),
        ),
        safety_checker=deploy(SafetyChecker).bind(
            on_device("checking.device", partial(checkers_of, settings.drawing, settings.checking.device))
        ),
        postprocessor=deploy(Postprocessor).bind(
            files,
            at_home("Postprocessor", partial(OutputNames.of, settings.gateway)),
            settings.gateway.delivery_patience_s,
            settings.output,
            partial(models_of, settings.drawing.family),
        ),
        expanding_limit_s=settings.expanding.time_limit_s,
    )
    dispatcher = deploy(Dispatcher).bind(settings.gateway, stages, files, settings.drawing.device)
    door = partial(door_of, settings.drawing, settings.weights, settings.expanding.folder is not None)
    return deploy(serve.ingress()(Gateway)).bind(settings.gateway, door, dispatcher)

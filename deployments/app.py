"""The app: which deployments there are and how they are bound together."""

from functools import partial
from typing import Any

from ray import serve
from ray.serve import Application, Deployment

from deployments.diffuser import Diffuser, drawer_of
from deployments.dispatcher import Dispatcher
from deployments.gateway import Gateway, door_of
from deployments.graph import Stages
from deployments.postprocessor import Postprocessor, models_of
from deployments.preprocessor import Preprocessor, catalogue_of, faces_of, pictures_of
from deployments.prompt_expander import PromptExpander, expander_of, fits_of
from deployments.safety_checker import SafetyChecker, checkers_of
from deployments.settings import AppSettings, Placement
from deployments.weights import finder_of, weights_of_node
from gateway.files.backends import files_of
from gateway.files.names import OutputNames


def build_app(settings: AppSettings) -> Application:
    """The whole service; the ingress is the Gateway."""
    placed = settings.deployments
    files = files_of(settings.gateway)
    stages = Stages(
        preprocessor=_deploy(Preprocessor, placed.preprocessor).bind(
            partial(pictures_of, settings.gateway),
            partial(catalogue_of, settings.drawing),
            partial(finder_of, settings.gateway, settings.weights),
            partial(faces_of, settings.drawing),
            settings.drawing.phrasebook,
        ),
        prompt_expander=_deploy(PromptExpander, placed.prompt_expander).bind(
            partial(expander_of, settings.drawing, settings.expanding),
            settings.drawing.phrasebook,
            partial(fits_of, settings.drawing),
        ),
        diffuser=_deploy(Diffuser, placed.diffuser).bind(
            partial(drawer_of, settings.drawing),
            settings.drawing.rows,
            partial(weights_of_node, settings.gateway, settings.weights),
        ),
        safety_checker=_deploy(SafetyChecker, placed.safety_checker).bind(
            partial(checkers_of, settings.drawing, settings.checking.device)
        ),
        postprocessor=_deploy(Postprocessor, placed.postprocessor).bind(
            files,
            partial(OutputNames.of, settings.gateway),
            settings.gateway.delivery_patience_s,
            settings.output,
            partial(models_of, settings.drawing.family),
        ),
        expanding_limit_s=settings.expanding.time_limit_s,
    )
    dispatcher = _deploy(Dispatcher, placed.dispatcher).bind(settings.gateway, stages, files)
    gateway = _deploy(serve.ingress()(Gateway), placed.gateway)
    door = partial(door_of, settings.drawing, settings.weights, settings.expanding.folder is not None)
    return gateway.bind(settings.gateway, door, stages, dispatcher, placed.gateway.max_ongoing_requests)


def _deploy(cls: type[Any], placement: Placement) -> Deployment:
    return serve.deployment(name=cls.__name__, **placement.options())(cls)

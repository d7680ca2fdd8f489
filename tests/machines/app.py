"""The app with engines that draw nothing, for config files to name as their `import_path`."""

import os
from collections.abc import Callable
from pathlib import Path

from ray.serve import Application

from deployments import app
from deployments.settings import AppSettings
from tests.kills.serving import HOLD


def holding(settings: AppSettings) -> Application:
    """Its engine holds what it has begun while a file is there."""
    return _built(settings, open_holding)


def open_holding(_: object) -> object:
    from tests.kills.holding import HoldingDrawer

    return HoldingDrawer(Path(os.environ[HOLD]))


def no_expander(*_: object) -> None:
    """Nothing is added to prompts, and torch has one process less to start in."""


def blind_checkers(*_: object) -> object:
    """Nor need it check flat pictures."""
    from tests.deployments.fakes import fake_checkers

    return fake_checkers()


def _built(settings: AppSettings, open_drawer: Callable[..., object]) -> Application:
    """Built in a process of its own, which nothing else uses afterwards."""
    app.drawer_of, app.expander_of, app.checkers_of = open_drawer, no_expander, blind_checkers  # type: ignore[assignment]
    return app.build_app(settings)

"""The app with engines that draw nothing, for config files to name as their `import_path`."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from ray.serve import Application

from deployments import app
from deployments.settings import AppSettings
from tests.kills.serving import HOLD

COSTS = Path(__file__).with_name("row_costs.json")


def holding(settings: AppSettings) -> Application:
    """Its engine holds what it has begun while a file is there."""
    return _built(settings, open_holding)


def sleeping(settings: AppSettings) -> Application:
    """Its engine takes as long as a table says."""
    return _built(settings, open_sleeping)


def open_holding(_: object) -> object:
    from tests.kills.holding import HoldingDrawer

    return HoldingDrawer(Path(os.environ[HOLD]))


def open_sleeping(_: object) -> object:
    from tests.sleeping import SleepingDrawer

    return SleepingDrawer(json.loads(COSTS.read_text())["points"])


def no_expander(*_: object) -> None:
    """Nothing is added to prompts, and torch has one process less to start in."""


def blind_checkers(*_: object) -> object:
    """Nor need it check flat pictures."""
    from tests.deployments.fakes import fake_checkers

    return fake_checkers()


def _built(settings: AppSettings, open_drawer: Callable[..., object]) -> Application:
    """Built in a process of its own, which nothing else uses afterwards."""
    for name, opener in (("drawer_of", open_drawer), ("expander_of", no_expander), ("checkers_of", blind_checkers)):
        setattr(app, name, opener)
    return app.build_app(settings)

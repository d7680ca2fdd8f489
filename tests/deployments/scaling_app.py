"""The app with replicas that sleep, for a config file to name: each of their calls takes as long as the file says."""

from pathlib import Path
from typing import Any

from ray.serve import Application

from deployments import app
from deployments.dispatcher import Dispatcher as ServedDispatcher
from deployments.settings import AppSettings
from tests.sleeping import SleepingDrawer

SILENT = "silent"  # a file of this name in the data folder keeps the figures back


class Dispatcher(ServedDispatcher):
    """The service's own, whose figures can be kept back."""

    async def record_autoscaling_stats(self) -> dict[str, float]:
        if (Path(self._settings.data_dir) / SILENT).exists():
            raise ConnectionError("the ledger is away")
        return await super().record_autoscaling_stats()


def build_app(args: dict[str, Any]) -> Application:
    """points: rows of a call, and its milliseconds; the others are the app's own."""
    points, rows = args.pop("points"), args["drawing"]["rows"]

    def drawer_of(_: object) -> SleepingDrawer:
        return SleepingDrawer(points, rows)

    # what the app binds its deployments to
    for name, ours in (("drawer_of", drawer_of), ("Dispatcher", Dispatcher)):
        setattr(app, name, ours)
    return app.build_app(AppSettings.model_validate(args))

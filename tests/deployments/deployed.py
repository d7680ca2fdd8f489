"""The whole app deployed as `serve deploy` does it, whose config may be changed and deployed again."""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from deployments.placement import DEFAULTS

APP = "settings"
SETTLED_S = 240.0


class Deployed:
    """The app of one config, which may be changed."""

    def __init__(self, port: int, data: Path, family: Path, import_path: str = "deployments.app:build_app") -> None:
        self._application: dict[str, Any] = {
            "name": APP,
            "route_prefix": f"/{APP}",
            "import_path": import_path,
            "args": {"gateway": {"data_dir": str(data)}, "drawing": {"family": str(family), "threads": 1}},
            "deployments": [{"name": name, "graceful_shutdown_timeout_s": 2.0} for name in DEFAULTS],
        }
        self.listed("Dispatcher")["user_config"] = {"stop_grace_s": 0.5}
        self.listed("Diffuser")["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 1}
        self._http = {"host": "127.0.0.1", "port": port}
        self.url = f"http://127.0.0.1:{port}/{APP}"

    def listed(self, name: str) -> dict[str, Any]:
        """What the config lists of a deployment, to be changed before `deploy`."""
        deployments: list[dict[str, Any]] = self._application["deployments"]
        return next(one for one in deployments if one["name"] == name)

    @property
    def args(self) -> dict[str, Any]:
        found: dict[str, Any] = self._application["args"]
        return found

    def deploy(self, settled: Callable[[Any], bool] | None = None) -> tuple[set[str], set[str]]:
        """Deploy what the config says now: the deployments that have lost replicas by it, and those with new ones.

        settled: whether an application, as Serve tells of it, has come to its end; that it runs, where it is not given.
        """
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        client: Any = _get_global_client()
        before = self.replicas()
        content = {"http_options": self._http, "applications": [deepcopy(self._application)]}
        client.deploy_apps(ServeDeploySchema.model_validate(content))
        end = time.monotonic() + SETTLED_S
        while not (settled or _runs)(self.told()):
            assert time.monotonic() < end, self.told()
            time.sleep(0.2)
        after = self.replicas()
        lost = {name for name, known in before.items() if known - after.get(name, set())}
        new = {name for name, found in after.items() if found - before.get(name, set())}
        return lost, new

    def replicas(self) -> Mapping[str, set[str]]:
        """The ids of the replicas that run, by deployment."""
        return {name: {*each} for name, each in self.places().items()}

    def places(self) -> Mapping[str, Mapping[str, str]]:
        """The node of each replica that runs, by its id, by deployment."""
        told = self.told()
        deployments = {} if told is None else told["deployments"]
        return {
            name: {each["replica_id"]: each["node_id"] for each in one["replicas"] if each["state"] == "RUNNING"}
            for name, one in deployments.items()
        }

    def is_whole(self) -> bool:
        """Whether every deployment runs, and nothing of it starts or stops."""
        told = self.told()
        states = [replica["state"] for one in told["deployments"].values() for replica in one["replicas"]]
        return all(state == "RUNNING" for state in states) and len(told["deployments"]) == len(DEFAULTS)

    def told(self) -> Any:
        """What Serve tells of the application; None before it knows it."""
        from ray.serve.context import _get_global_client

        client: Any = _get_global_client()
        return client.get_serve_details()["applications"].get(APP)


def _runs(told: Any) -> bool:
    return told is not None and told["status"] == "RUNNING"

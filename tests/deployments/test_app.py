"""What the app consists of, and what it costs to have it in memory."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from ray.serve._private.build_app import build_app as built
from ray.serve.schema import DeploymentSchema

from deployments.app import build_app, place_app
from deployments.placement import DEFAULTS, placed
from deployments.settings import AppSettings

ROOT = Path(__file__).parents[2]


def settings_in(folder: Path, **gateway: object) -> AppSettings:
    given = {"gateway": {"data_dir": folder, **gateway}, "drawing": {"family": folder}}
    return AppSettings.model_validate(given)


def named(application: Any) -> Any:
    """The app built, its handles by their names."""
    return built(application, name="app", make_deployment_handle=lambda one, _: one.name)


def test_it_has_one_deployment_per_stage_and_the_gateway_is_its_ingress(tmp_path: Path) -> None:
    app = named(build_app(settings_in(tmp_path)))
    assert {deployment.name for deployment in app.deployments} == {
        "Gateway",
        "Dispatcher",
        "Preprocessor",
        "PromptExpander",
        "Diffuser",
        "SafetyChecker",
        "Postprocessor",
    }
    for deployment in app.deployments:  # which nobody else checks before a replica starts
        inspect.signature(deployment.func_or_class).bind(*deployment.init_args, **deployment.init_kwargs)
    assert app.ingress_deployment_name == "Gateway"


def test_each_has_the_options_that_it_is_given(tmp_path: Path) -> None:
    listed = DeploymentSchema(name="Diffuser", num_replicas=2, ray_actor_options={"num_cpus": 1, "num_gpus": 1})
    found = {one.name: one for one in named(place_app(settings_in(tmp_path), placed([listed]))).deployments}
    assert {*found} == {*DEFAULTS}
    assert found["Diffuser"].num_replicas == 2
    assert found["Diffuser"].ray_actor_options == {"num_cpus": 1, "num_gpus": 1}
    assert found["Gateway"].max_ongoing_requests == 500


def test_what_serve_stores_of_an_app_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = "hidden-from-everybody-who-looks-at-the-cluster"
    monkeypatch.setenv("THE_SECRET", hidden)
    (tmp_path / "url").write_text(f"postgresql://me:{hidden}@host/db\n")
    secrets = {"ledger_url": f"file:{tmp_path / 'url'}", "token_secret": "env:THE_SECRET", "files_url": "s3://bucket"}
    settings = settings_in(tmp_path, keys="required", webhook_keys=["env:THE_SECRET"], **secrets)
    assert (settings.gateway.ledger_address, settings.gateway.secret()) == (f"postgresql://me:{hidden}@host/db", hidden)
    application = named(build_app(settings))
    stored = [repr(settings), settings.model_dump_json(), repr(application)]
    for deployment in application.deployments:
        stored.append(repr(deployment.init_args))
        stored.append(cloudpickle.dumps((deployment.init_args, deployment.init_kwargs)).decode("latin-1"))
    assert all(hidden not in text for text in stored)


def test_no_replica_pays_for_torch_but_those_that_use_it() -> None:
    # what a replica of any stage imports, and what it unpickles of the Diffuser's answers
    program = "import sys, deployments.app, pipelines.events, pipelines.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0

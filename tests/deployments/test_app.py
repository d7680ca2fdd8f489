"""What the app consists of, and what it costs to have it in memory."""

import inspect
import subprocess
import sys
from pathlib import Path

from ray.serve._private.build_app import build_app as built

from deployments.app import build_app
from deployments.settings import AppSettings

ROOT = Path(__file__).parents[2]


def test_it_has_one_deployment_per_stage_and_the_gateway_is_its_ingress(tmp_path: Path) -> None:
    given = {
        "gateway": {"data_dir": tmp_path},
        "drawing": {"family": tmp_path},
        "deployments": {"diffuser": {"num_replicas": 2, "num_gpus": 1}},
    }
    app = built(
        build_app(AppSettings.model_validate(given)), name="app", make_deployment_handle=lambda one, _: one.name
    )
    found = {deployment.name: deployment for deployment in app.deployments}
    assert set(found) == {
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
    assert found["Diffuser"].num_replicas == 2
    assert found["Diffuser"].ray_actor_options["num_gpus"] == 1


def test_no_replica_pays_for_torch_but_those_that_use_it() -> None:
    # what a replica of any stage imports, and what it unpickles of the Diffuser's answers
    program = "import sys, deployments.app, pipelines.events, pipelines.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0

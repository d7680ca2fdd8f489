"""What a replica finds out about itself, where there is one and where there is none."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.exceptions import RayServeException

from deployments import replica
from deployments.replica import max_ongoing_requests, open_on, shutdown_timeout_s, starting


def test_outside_a_replica_the_options_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise RayServeException("this is no replica")

    # another test of this process may have left one behind
    monkeypatch.setattr(replica.serve, "get_replica_context", nowhere)
    assert (max_ongoing_requests("Gateway"), shutdown_timeout_s("Dispatcher")) == (500, 20)


def test_a_replica_that_books_no_gpu_says_so_before_it_looks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    booked: list[int] = []
    monkeypatch.setattr(replica.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(replica.ray, "get_gpu_ids", lambda: booked)
    with pytest.raises(ValueError, match=r"drawing\.device is cuda, .* `- name: Diffuser`"):
        open_on("drawing.device", "cuda", "Diffuser", lambda: "opened")
    assert open_on("drawing.device", "cpu", "Diffuser", lambda: "opened") == "opened"
    booked.append(0)
    assert open_on("drawing.device", "cuda:0", "Diffuser", lambda: "opened") == "opened"


def test_replicas_that_start_are_those_of_the_own_application_which_do_not_run_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(*states: str) -> dict[str, Any]:
        return {"deployments": {"Diffuser": {"replicas": [{"state": state} for state in states]}}}

    details = {
        "applications": {"ours": told("RUNNING", "STARTING", "RECOVERING", "STOPPING"), "other": told("STARTING")}
    }
    client = SimpleNamespace(get_serve_details=lambda: details)
    monkeypatch.setattr(replica.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(replica.serve, "get_replica_context", lambda: SimpleNamespace(app_name="ours"))
    monkeypatch.setattr(replica, "_get_global_client", lambda **_: client)
    assert (starting("Diffuser"), starting("Gateway")) == (2, 0)

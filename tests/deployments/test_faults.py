"""What leaves a stage, and what an error of Ray is towards a client."""

import pytest
from ray.exceptions import ActorDiedError, ObjectLostError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from deployments.faults import service_error, service_errors
from gateway.errors import ModelError, PlatformError
from pipelines.errors import DrawingFault, EngineDead, InputFault


def test_an_input_fault_becomes_a_model_error_at_its_field() -> None:
    with pytest.raises(ModelError) as caught, service_errors():
        raise InputFault("image_too_small", "small", "image_prompt_1.image_url", {"min_width": 8})
    assert caught.value.entry()["loc"] == ["body", "image_prompt_1", "image_url"]
    assert caught.value.ctx == {"min_width": 8}


@pytest.mark.parametrize("lost", [EngineDead("hangs"), ActorDiedError(), ObjectLostError("ab", None, "")])
def test_a_lost_runner_may_be_tried_again(lost: Exception) -> None:
    error = service_error(lost)
    assert isinstance(error, PlatformError)
    assert (error.error_type, error.status) == ("runner_disconnected", 503)
    assert error.headers()["x-fal-needs-retry"] == "1"


def test_busy_runners_may_be_tried_again() -> None:
    error = service_error(BackPressureError(1, 1))
    assert isinstance(error, PlatformError)
    assert error.status == 503


def test_the_cause_is_found_under_nested_task_errors() -> None:
    cause = ModelError("image_too_small", "small", ("image_url",))
    inner = RayTaskError("prepare", "trace", cause)
    assert service_error(RayTaskError("draw", "trace", inner)) is cause


def test_the_death_of_an_arguments_maker_is_a_lost_runner_too() -> None:
    reported = RayServeException("an upstream actor died before finishing a dependent task")
    reported.__cause__ = ActorDiedError()
    error = service_error(reported)
    assert isinstance(error, PlatformError)
    assert error.error_type == "runner_disconnected"


def test_what_nobody_foresaw_is_internal_and_tells_nothing() -> None:
    with pytest.raises(PlatformError) as caught, service_errors():
        raise OSError("/secret/path")
    assert caught.value.error_type == "internal_error"
    assert "/secret" not in str(caught.value)


def test_what_cannot_be_drawn_here_says_why() -> None:
    error = service_error(DrawingFault("the picture does not fit into the memory of the device"))
    assert isinstance(error, PlatformError)
    assert error.error_type == "internal_error"
    assert "does not fit" in str(error)

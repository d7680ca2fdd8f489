"""What a refused request looks like to a user of each client: the client's own typed error, with the field."""

import fal_client
import pytest

from tests.clients.conftest import Drive, PhotographServer

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

FAST = "fal-ai/fast-fooocus-sdxl"


def test_python_gets_the_field_of_a_value_out_of_range(base: str) -> None:
    with pytest.raises(fal_client.FalClientHTTPError, match="num_inference_steps") as refused:
        fal_client.subscribe(FAST, arguments={"prompt": "x", "num_inference_steps": 25})
    assert refused.value.status_code == 422
    (entry,) = refused.value.response.json()["detail"]
    assert entry["loc"] == ["body", "num_inference_steps"]
    assert entry["type"] == "less_than_equal"


async def test_async_python_gets_the_missing_field(base: str, async_client: fal_client.AsyncClient) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        await async_client.run("fal-ai/fooocus/image-prompt", arguments={"prompt": "x"})
    assert refused.value.status_code == 422
    (entry,) = refused.value.response.json()["detail"]
    assert (entry["loc"], entry["type"]) == (["body", "image_prompt_1"], "missing")


@pytest.mark.parametrize("action", ["subscribe", "run"])
@pytest.mark.parametrize(("client", "way"), [("new", "middleware"), ("new", "proxy"), ("old", "middleware")])
def test_javascript_gets_its_validation_error(drive: Drive, client: str, way: str, action: str) -> None:
    done = drive(client, way, action, FAST, {"num_inference_steps": 4}, fields=["prompt", "seed"])
    assert done["error"]["type"] == "ValidationError"
    assert done["error"]["status"] == 422
    (entry,) = done["error"]["fields"]["prompt"]
    assert entry["type"] == "missing"
    assert done["error"]["fields"]["seed"] == []


def test_a_photograph_that_is_not_there_names_its_field(base: str, photographs: PhotographServer) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        fal_client.subscribe(
            f"{FAST}/image-to-image", arguments={"prompt": "x", "image_url": photographs.url("none.png")}
        )
    assert refused.value.status_code == 422
    (entry,) = refused.value.response.json()["detail"]
    assert (entry["loc"], entry["type"]) == (["body", "image_url"], "file_download_error")


@pytest.mark.parametrize(("client", "way"), [("new", "middleware"), ("new", "proxy"), ("old", "middleware")])
def test_javascript_hears_of_a_failed_request_with_its_result(
    drive: Drive, photographs: PhotographServer, client: str, way: str
) -> None:
    """It was accepted, so it is COMPLETED; the result route throws."""
    arguments = {"prompt": "x", "image_url": photographs.url("none.png")}
    done = drive(client, way, "follow", f"{FAST}/image-to-image", arguments, fields=["image_url"])
    assert done["statuses"][-1] == "COMPLETED"
    assert (done["error"]["type"], done["error"]["status"]) == ("ValidationError", 422)
    (entry,) = done["error"]["fields"]["image_url"]
    assert entry["type"] == "file_download_error"


def test_an_unknown_endpoint_is_not_found(base: str) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as refused:
        fal_client.submit("fal-ai/no-such-model", arguments={})
    assert refused.value.status_code == 404

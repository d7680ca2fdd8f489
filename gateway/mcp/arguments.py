"""What each tool of the Model Context Protocol is given."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.endpoints import ENDPOINTS
from gateway.http.bodies import MAX_FILE_NAME

EndpointId = Annotated[
    str, Field(description="An id of list_endpoints, such as fal-ai/fooocus.", json_schema_extra={"enum": [*ENDPOINTS]})
]
Pictures = Annotated[bool, Field(description="Whether the pictures come along; their addresses do in any case.")]


class Arguments(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Nothing(Arguments):
    """No argument."""


class OfEndpoint(Arguments):
    endpoint_id: EndpointId


class Asking(OfEndpoint):
    input: dict[str, Any] = Field(description="The endpoint's input, as schema tells it.")


class Running(Asking):
    pictures: Pictures = True


class OfRequest(OfEndpoint):
    request_id: str = Field(min_length=1, max_length=100, description="What submit has answered.")


class Following(OfRequest):
    logs: bool = Field(False, description="Whether its log so far comes along.")


class Fetching(OfRequest):
    pictures: Pictures = True


class Uploading(Arguments):
    file_name: str = Field("", max_length=MAX_FILE_NAME, description="The file's own name.")
    content_type: str = Field("", max_length=MAX_FILE_NAME, description="Such as image/png.")
    content: str | None = Field(
        None, description="The file in base64. Without it the answer has an address to PUT the bytes to within an hour."
    )

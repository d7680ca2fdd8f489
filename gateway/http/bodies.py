"""The bodies of routes that are not an endpoint's own, in and out, as routes and OpenAPI have them."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from gateway.endpoints import ENDPOINTS
from gateway.errors import PlatformErrorBody
from gateway.files.uploads import MAX_PARTS
from gateway.keys.tokens import LONGEST_S
from gateway.ledger.figures import LOOKED_THROUGH
from gateway.ledger.models import Outcome, Priority
from gateway.policy import MAX_RULES, AclRule, Decision
from gateway.worker.overview import DrawerState

APPS = tuple(sorted({endpoint_id.split("/")[1] for endpoint_id in ENDPOINTS}))
LONGEST_SIGNED_S = 7 * 24 * 3600
MAX_FILE_NAME = 1000  # characters of a client's words for a file
MOST_LISTED = 100  # requests of a page of the history
MOST_ERRORS = 20  # that operators are told

Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
Position = Annotated[Count, Field(description="Requests that come before it.")]
NextCursor = Annotated[str | None, Field(description="For the page after; null after the last one.")]
StatusWord = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
Level = Annotated[str, Field(json_schema_extra={"enum": ["STDERR", "STDOUT", "ERROR", "INFO", "WARN", "DEBUG"]})]
ModelStatus = Literal["active", "deprecated"]
PriorityWord = Annotated[str, Field(json_schema_extra={"enum": [each.name.lower() for each in Priority]})]


class Links(TypedDict):
    response_url: Url
    status_url: Url
    cancel_url: Url


class Accepted(Links):
    status: Literal["IN_QUEUE"]
    request_id: str
    gateway_request_id: str
    queue_position: Position


class Labels(TypedDict):
    level: Level
    source: Literal["USER"]


class LogEntry(Labels):
    message: str
    timestamp: Instant
    labels: Labels


class Metrics(TypedDict):
    inference_time: Annotated[float | None, Field(description="Seconds.")]


@with_config(
    json_schema_extra={
        "oneOf": [
            {"properties": {"status": {"const": "IN_QUEUE"}}, "required": ["queue_position"]},
            {"properties": {"status": {"const": "IN_PROGRESS"}}, "required": ["logs"]},
            {"properties": {"status": {"const": "COMPLETED"}}, "required": ["logs", "metrics"]},
        ]
    }
)
class QueueStatus(Links):
    status: StatusWord
    request_id: str
    queue_position: NotRequired[Position]
    logs: NotRequired[Annotated[list[LogEntry] | None, Field(description="null where nobody asked for them.")]]
    metrics: NotRequired[Metrics]
    error: NotRequired[Annotated[str, Field(description="Of a request that ended badly.")]]
    error_type: NotRequired[str | None]


class CancelAnswer(TypedDict):
    status: Literal["OK", "CANCELLATION_REQUESTED"]


class CancelRefusal(TypedDict):
    status: Literal["ALREADY_COMPLETED", "NOT_FOUND"]
    detail: str
    message: str


class HistoryEntry(TypedDict):
    request_id: str
    endpoint_id: str
    key: Annotated[str | None, Field(description="The id of the key that sent it.")]
    status: StatusWord
    outcome: Outcome | None
    error: str | None
    error_type: str | None
    priority: PriorityWord
    attempts: Count
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None


class HistoryPage(TypedDict):
    requests: Annotated[list[HistoryEntry], Field(max_length=MOST_LISTED)]
    cursor: NextCursor


class HistoryRecord(HistoryEntry):
    stored: Annotated[bool, Field(description="Whether input and output may be shown.")]
    inactive: Annotated[list[str], Field(description="Fields that were sent and do not act.")]
    input: Annotated[dict[str, Any] | None, Field(description="As it was sent, without the pictures inside it.")]
    seeds: Annotated[list[int], Field(description="From which the pictures are drawn, in their order.")]
    output: Annotated[dict[str, Any] | None, Field(description="The answer, or the body of the failure.")]
    status_code: Annotated[int | None, Field(description="Of the result; null before its end.")]
    logs: list[LogEntry]


class Deletion(TypedDict):
    request_id: str
    files: Annotated[Count, Field(description="That went with it.")]


class UploadRequest(BaseModel):
    content_type: str | None = Field(None, max_length=MAX_FILE_NAME)
    file_name: str | None = Field(None, max_length=MAX_FILE_NAME)


class UploadAddress(TypedDict):
    upload_url: Annotated[Url, Field(description="Where the content goes, without a key.")]
    file_url: Url


class StorageToken(TypedDict):
    token: str
    token_type: Literal["Bearer"]
    base_url: Url
    expires_at: Instant


@with_config(strict=True)
class UploadedPart(TypedDict):
    partNumber: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    etag: str


class UploadedParts(BaseModel):
    parts: list[UploadedPart] = Field(max_length=MAX_PARTS)


class FileUrl(TypedDict):
    file_url: Url


class AccessUrl(TypedDict):
    access_url: Url


class BegunUpload(AccessUrl):
    uploadId: str


class CompletedUpload(AccessUrl):
    file_url: Url


class FileDeletion(TypedDict):
    deleted: Literal[True]


class Signing(BaseModel):
    model_config = ConfigDict(strict=True)

    expiration_seconds: int = Field(ge=1, le=LONGEST_SIGNED_S)


class SignedAddress(TypedDict):
    signed_url: Annotated[Url, Field(description="Opens the file without a key.")]


class NewFileAcl(BaseModel):
    default: Decision = Field(description="For whom no rule names.")
    rules: tuple[AclRule, ...] = Field((), max_length=MAX_RULES)


class FileAcl(NewFileAcl):
    rules: tuple[AclRule, ...] = Field(max_length=MAX_RULES)


class PlatformMetadata(TypedDict):
    display_name: str
    category: str
    description: str
    status: ModelStatus
    tags: list[str]
    updated_at: Instant
    date: Instant
    is_favorited: bool | None
    thumbnail_url: Url
    model_url: Url
    highlighted: bool
    pinned: bool


class PlatformModel(TypedDict):
    endpoint_id: str
    metadata: PlatformMetadata
    openapi: NotRequired[
        Annotated[dict[str, Any], Field(description="Its queue, as OpenAPI 3.0, where that is asked for.")]
    ]
    enterprise_status: NotRequired[Literal["ready", "pending"]]


class PlatformModels(TypedDict):
    models: list[PlatformModel]
    next_cursor: NextCursor
    has_more: bool


class TypedFault(TypedDict):
    type: str
    message: str


class PlatformFault(PlatformErrorBody):
    error: NotRequired[Annotated[TypedFault, Field(description="As fal's platform has it.")]]


class TokenRequest(BaseModel):
    allowed_apps: list[Annotated[str, Field(json_schema_extra={"enum": [*APPS]})]] = Field(min_length=1)
    token_expiration: float = Field(120, gt=0, le=LONGEST_S, allow_inf_nan=False, strict=True, description="Seconds.")


class Health(TypedDict):
    status: Literal["ok"]


class Family(TypedDict):
    """The model family that draws, and what it has beside its checkpoint."""

    name: str
    checks_pictures: Annotated[bool, Field(description="Whether there is a safety checker.")]
    has: list[str]
    missing: Annotated[dict[str, str], Field(description="What it lacks, each with the command that brings it.")]


class Readiness(TypedDict):
    status: Literal["ready"]
    waiting: Count
    replicas: Annotated[Count, Field(description="That draw now. Without any, what waits has them started.")]
    capacity: Annotated[Count, Field(description="Rows that these draw at once: one a picture, two where guided.")]
    family: NotRequired[Family]


class Versions(TypedDict):
    service: str | None
    family: Annotated[str | None, Field(description="The model family that draws, with its version.")]


class LeadingDispatcher(TypedDict):
    name: Annotated[str, Field(description="Its replica, as Serve and the logs call it.")]
    leads_for: Annotated[float, Field(ge=0, description="Seconds.")]


class DrawingReplica(TypedDict):
    """One that draws. What is counted is counted over the last minute."""

    name: str
    state: Annotated[DrawerState, Field(description="avoided: is about to stop. ended: waits to be replaced.")]
    rows: Annotated[Count, Field(description="That it draws at once.")]
    rows_taken: Annotated[float, Field(ge=0, description="Of these; requests may take more than there are.")]
    requests: Annotated[Count, Field(description="That have a place there.")]
    bases: Annotated[list[str], Field(description="At hand, besides the family's own.")]
    lora_sets: Annotated[Count, Field(description="At hand.")]
    rows_a_step: Annotated[float | None, Field(description="Of its UNet calls; null where there were none.")]
    busy: Annotated[float, Field(ge=0, le=1, description="For which part of the minute its device worked.")]
    base_hits: Count
    base_misses: Count
    lora_hits: Count
    lora_misses: Count


class QueueLine(TypedDict):
    """What goes of one endpoint and priority."""

    endpoint_id: str
    priority: PriorityWord
    waiting: Count
    claimed: Annotated[Count, Field(description="On the way to a replica.")]
    running: Count
    oldest_wait: Annotated[float | None, Field(description="Seconds; null where none waits.")]


class OwedWebhooks(TypedDict):
    owed: Annotated[Count, Field(description="Neither delivered nor given up.")]
    oldest: Annotated[float | None, Field(description="Seconds since the end of the request that waits longest.")]


class RecentError(TypedDict):
    request_id: str
    endpoint_id: str
    key: Annotated[str | None, Field(description="The id of the key that sent it.")]
    status_code: int
    error_type: str
    message: Annotated[str, Field(description="As its caller was told it, where that is short.")]
    at: Instant


class ServiceStatus(TypedDict):
    """What runs here and how it goes. What only those know who are `unknown` is null."""

    at: Instant
    unknown: Annotated[
        list[Literal["dispatcher", "ledger"]], Field(description="Who did not answer. A store has `stores` too.")
    ]
    versions: Versions
    stores: Annotated[dict[str, bool | None], Field(description="Whether each is there; null: it does not say.")]
    leader: LeadingDispatcher | None
    replicas: list[DrawingReplica] | None
    starting: Annotated[Count | None, Field(description="Replicas that are being started.")]
    metrics: Annotated[list[Url] | None, Field(description="Where machines offer theirs, for Prometheus.")]
    queue: list[QueueLine] | None
    webhooks: OwedWebhooks | None
    errors: Annotated[
        list[RecentError] | None,
        Field(max_length=MOST_ERRORS, description=f"Of the last {LOOKED_THROUGH:,} ends, the last first."),
    ]

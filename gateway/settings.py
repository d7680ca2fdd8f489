"""What an operator may set about the gateway, the dispatcher and the files of pictures."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from gateway.ledger.address import parse
from gateway.policy import FilesAccess

Scheme = Literal["fooocus", "a1111"]
"""How pictures say how they were made."""

MIB = 1024 * 1024
DAY_S = 86_400.0


class OutputSettings(BaseModel):
    """How pictures are written. The defaults are Fooocus' (fooocus-facts 8.4 and 8.5), but for what costs much CPU and
    only makes files smaller (benchmarks/results/encoding.md).

    jpeg_quality, webp_quality: 1 to 100; a webp of 100 is lossy too. jpeg_optimize: the same pixels in a smaller file,
    optimised and progressive. png_compression: 0 is none, 1 looks for runs alone, 9 is the most and the slowest.
    metadata: what a picture says of its making, in a scheme of Fooocus'; off says nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    jpeg_quality: int = Field(95, ge=1, le=100)
    webp_quality: int = Field(95, ge=1, le=100)
    jpeg_optimize: bool = False
    png_compression: int = Field(1, ge=0, le=9)
    metadata: Literal["off"] | Scheme = "off"

    @field_validator("metadata", mode="before")
    @classmethod
    def _as_yaml_reads_it(cls, value: object) -> object:
        return "off" if value is False else value


class GatewaySettings(BaseModel):
    """Durations in seconds, sizes in bytes.

    data_dir: folder of the files store, and of the ledger unless `ledger_url` names another database.
    public_url: scheme, host and port under which clients reach the service; None takes what each request says.
    allow_loopback_urls: fetch clients' pictures from this machine too (examples and tests).
    lease_s: how long a silent owner keeps a request; beat_s: how often an owner speaks. run_timeout_s: from the claim
        of a request until it is drawn.
    delivery_patience_s: how long a drawn picture waits for a files store that is away, before its request is put back.
    tick_s: pause between two looks of the dispatcher into the ledger while nobody wakes it.
    capacity: requests that a dispatcher holds at once at most. It holds what the replicas that live can draw, and
        look_ahead more, which are prepared meanwhile.
    open_calls_of_key: calls of a key that may be open and wait for their pictures (sync runs and their streams), over
        all replicas. key_share: the part of what can be drawn at once that a key without a limit of its own may have.
    max_waiting: requests that wait, beyond which the service takes no more. max_retries: attempts after the first that
        faults of the infrastructure may cost a request; max_crashes: replicas that it may take down with it.
    keys: `required` refuses calls without an API key (`python -m gateway.keys create`); `off` answers all callers, and
        is for this machine alone.
    allowed_hosts: names under which the service answers, besides this machine's, fal's and the public one. Without any,
        a service that requires keys answers under every name.
    cors_origins: origins (`https://app.example`) whose pages may call from a browser; `*` for all, where keys are
        required.
    token_secret: signs short-lived tokens and names produced pictures, for several machines; on one it is made in
        `data_dir`.
    webhook_keys: seeds of the Ed25519 keys that sign webhooks, each 32 bytes in base64, for several machines; all are
        published and the first signs. None are needed on one: it makes its own in `data_dir`.
    status_polls_per_s: polls of statuses that a replica of the gateway answers at once; of those beyond, it holds what
        would tell nothing new for up to a second.
    keep_requests_s: how long a request that has ended is kept, with its files. keep_unstored_s: how long the result of
        one with `X-Fal-Store-IO: 0` can be fetched. sweep_s: how often what is over is cleared up.
    stop_grace_s: how long a stopping dispatcher lets its requests finish before it puts them back.
    files_url: a bucket for the files store, `s3://bucket/prefix`, instead of `data_dir`; credentials are found as boto3
        finds them. files_endpoint_url: of a server that is not Amazon's. files_region: where boto3 finds none.
    files_access: `public` serves outputs and uploads to whoever has their unguessable address, as fal does; `key` to
        the key whose they are, and to administrators. What a client's own lifecycle closes is closed in both.
    body_grace_s: how far a body may fall behind body_least_bytes_per_s while it arrives, and so how long it may be
        silent. body_timeout_s, upload_timeout_s: how long the body of a request, of an upload is waited for in all.
    max_upload_bytes: of one uploaded file. uploads_of_key: files that a key may have uploaded at once, unfinished ones
        included; all callers together where keys are off. upload_bytes_of_key: their bytes; None is no limit.
        unfinished_uploads_of_key, upload_parts_of_key: uploads in parts that a key may have begun and not completed,
        and their parts together.
    outputs_expire_s, uploads_expire_s: how long such files are kept, where the client does not say; None keeps them.
    """

    # what is wrong is told without what was given, which may hold passwords
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data_dir: Path
    ledger_url: str | None = None
    public_url: str | None = Field(None, pattern=r"^https?://[^/?#]+/?$")
    allow_loopback_urls: bool = False
    max_body_bytes: int = Field(25 * MIB, gt=0)
    max_image_bytes: int = Field(16 * MIB, gt=0)
    max_image_pixels: int = Field(40_000_000, gt=0)
    fetch_timeout_s: float = Field(20.0, gt=0)
    lease_s: float = Field(30.0, gt=0)
    beat_s: float = Field(1.0, gt=0)
    run_timeout_s: float = Field(600.0, gt=0)
    delivery_patience_s: float = Field(300.0, ge=0)
    tick_s: float = Field(2.0, gt=0)
    capacity: int = Field(256, gt=0)
    look_ahead: int = Field(4, gt=0)
    open_calls_of_key: int = Field(128, gt=0)
    key_share: float = Field(0.75, gt=0, le=1)
    max_waiting: int = Field(10_000, gt=0)
    max_retries: int = Field(10, ge=0)
    max_crashes: int = Field(3, ge=1)
    stop_grace_s: float = Field(15.0, ge=0)
    status_polls_per_s: float = Field(50.0, gt=0)
    keep_requests_s: float = Field(30 * DAY_S, gt=0)
    keep_unstored_s: float = Field(3600.0, gt=0)
    sweep_s: float = Field(600.0, gt=0)
    keys: Literal["off", "required"] = "off"
    allowed_hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$|^[0-9A-Fa-f:.]+$")], ...] = ()
    cors_origins: tuple[Annotated[str, Field(pattern=r"^\*$|^https?://[^/?#*]+$")], ...] = ()
    token_secret: SecretStr | None = Field(None, min_length=32)
    webhook_keys: tuple[SecretStr, ...] = ()
    files_url: str | None = Field(None, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?$")
    files_endpoint_url: str | None = Field(None, pattern=r"^https?://[^/?#@]+/?$")
    files_region: str | None = None
    files_access: FilesAccess = "public"
    body_grace_s: float = Field(10.0, gt=0)
    body_least_bytes_per_s: float = Field(8 * 1024.0, gt=0)
    body_timeout_s: float = Field(600.0, gt=0)
    upload_timeout_s: float = Field(3600.0, gt=0)
    max_upload_bytes: int = Field(512 * MIB, gt=0)
    uploads_of_key: int = Field(10_000, gt=0)
    upload_bytes_of_key: int | None = Field(None, gt=0)
    unfinished_uploads_of_key: int = Field(100, gt=0)
    upload_parts_of_key: int = Field(10_000, gt=0)
    outputs_expire_s: int | None = Field(None, gt=0)
    uploads_expire_s: int | None = Field(None, gt=0)

    @field_validator("keys", mode="before")
    @classmethod
    def _as_yaml_reads_it(cls, value: object) -> object:
        return "off" if value is False else value

    @field_validator("ledger_url")
    @classmethod
    def _of_a_database_that_it_knows(cls, value: str | None) -> str | None:
        if value is not None:
            parse(value)
        return value

    @model_validator(mode="after")
    def _closed_to_pages(self) -> Self:
        if self.keys == "off" and "*" in self.cors_origins:
            raise ValueError("cors_origins: without keys, '*' would let any web page use the service")
        return self

    @model_validator(mode="after")
    def _files_have_owners(self) -> Self:
        if self.files_access == "key" and self.keys == "off":
            raise ValueError("files_access: 'key' needs keys: required")
        return self

    @property
    def delivery_timeout_s(self) -> float:
        """From the end of a drawing to the end of its request: as long for checking and storing, besides waiting."""
        return self.run_timeout_s + self.delivery_patience_s

    @property
    def ledger_address(self) -> str:
        """`ledger_url`, or the address of a SQLite file in `data_dir`."""
        return self.ledger_url or f"sqlite:///{self.data_dir.absolute() / 'ledger.db'}"

"""What an operator may set about the gateway, the dispatcher and the files of pictures.

`python -m deployments.settings_table` makes the tables of docs/operations.md of what stands below the fields.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from gateway.ledger_address import holds_secret, parse
from gateway.local_state import SHARED
from gateway.policy import FilesAccess
from gateway.secrets import in_clear, is_reference

Scheme = Literal["fooocus", "a1111"]
"""How pictures say how they were made."""

MIB = 1024 * 1024
DAY_S = 86_400.0
LEAST_SECRET = 32  # characters of `token_secret`

# what is wrong is told without what was given, which may hold passwords
STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class OutputSettings(BaseModel):
    """How pictures are written. The defaults are Fooocus' (fooocus-facts 8.4 and 8.5), but for what costs much CPU and
    only makes files smaller (benchmarks/results/encoding.md).
    """

    model_config = STRICT

    jpeg_quality: int = Field(95, ge=1, le=100)
    """1 to 100; a png is lossless"""
    webp_quality: int = Field(95, ge=1, le=100)
    """1 to 100; a webp of 100 is lossy too"""
    jpeg_optimize: bool = False
    """the same pixels in a file that is smaller by about a tenth, progressive, at 3 to 5 times the CPU time"""
    png_compression: int = Field(1, ge=0, le=9)
    """0 is none, 9 the most and the slowest. 1 looks for runs alone: what looks like a photograph becomes as small as
    by 6 in less than half the CPU time, flat shapes 1.8 times as large ([table](../benchmarks/results/encoding.md))"""
    metadata: Literal["off"] | Scheme = "off"
    """what a picture says of its making: nothing, or in Fooocus' own scheme (`fooocus`, JSON) or as A1111 writes it
    (`a1111`, text)"""

    @field_validator("metadata", mode="before")
    @classmethod
    def _as_yaml_reads_it(cls, value: object) -> object:
        return "off" if value is False else value


class FixedSettings(BaseModel):
    """What stays while a replica lives: `gateway` in the argument of the app. Durations in seconds, sizes in bytes."""

    model_config = STRICT

    data_dir: Path
    """folder of the files store and of the ledger"""
    ledger_url: str | None = Field(None, repr=False)
    """another database than the SQLite file in `data_dir`: `postgresql://user:password@host/database`, or where that
    address is, `env:NAME` or `file:/path`; another kind is refused at the start"""
    public_url: str | None = Field(None, pattern=r"^https?://[^/?#]+/?$")
    """scheme, host and port under which clients reach the service; without it, what each request says"""
    allow_loopback_urls: bool = False
    """fetch clients' pictures from this machine too (examples and tests)"""
    max_image_bytes: int = Field(16 * MIB, gt=0)
    """of one picture that comes in"""
    max_image_pixels: int = Field(40_000_000, gt=0)
    """of one picture that comes in, read from its header"""
    fetch_timeout_s: float = Field(20.0, gt=0)
    """for one picture by address, redirects included"""
    lease_s: float = Field(30.0, gt=0)
    """how long a silent dispatcher keeps a request, and a silent gateway the runs of clients that wait"""
    leader_lease_s: float = Field(9.0, gt=0)
    """how long a silent dispatcher leads, before one that stands by takes over"""
    beat_s: float = Field(1.0, gt=0)
    """how often a dispatcher extends its leases, writes log lines and hears of cancellations, in one transaction"""
    run_timeout_s: float = Field(600.0, gt=0)
    """from the claim of a request until it is drawn, without the time in which no replica has room"""
    delivery_patience_s: float = Field(300.0, ge=0)
    """how long a drawn picture waits for a files store that is away, before its request is put back"""
    tick_s: float = Field(2.0, gt=0)
    """pause between two looks of the dispatcher into the ledger while nobody wakes it"""
    max_retries: int = Field(10, ge=0)
    """attempts after the first that faults of the infrastructure may cost a request"""
    max_crashes: int = Field(3, ge=1)
    """replicas that a request may take down"""
    keys: Literal["off", "required"] = "off"
    """`required` refuses calls without an API key"""
    allowed_hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$|^[0-9A-Fa-f:.]+$")], ...] = ()
    """names under which the service answers, besides this machine's, fal's and the public one; with keys and none
    listed: any"""
    cors_origins: tuple[Annotated[str, Field(pattern=r"^\*$|^https?://[^/?#*]+$")], ...] = ()
    """origins whose pages may call from a browser; `*` for all, where keys are required"""
    token_secret: SecretStr | None = None
    """signs short-lived tokens and names produced pictures: where it is, `env:NAME` or `file:/path`, or itself; at
    least 32 characters, the same on all machines; after a change what is stored keeps its address; none makes one in
    `data_dir`"""
    other_token_secrets: tuple[SecretStr, ...] = ()
    """likewise: of tokens that are taken too, and sign nothing. The former one while what it signed lives, or the next
    one while not every replica signs with it"""
    webhook_keys: tuple[SecretStr, ...] = ()
    """seeds (32 bytes in base64) of the keys that sign webhooks, each by reference or itself; all are published, the
    first signs; none makes one in `data_dir`"""
    files_url: str | None = Field(None, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?$")
    """a bucket for the files, `s3://bucket/prefix`, instead of `data_dir`; credentials are found as boto3 finds them"""
    files_endpoint_url: str | None = Field(None, pattern=r"^https?://[^/?#@]+/?$")
    """of a bucket that is not Amazon's"""
    files_region: str | None = None
    """of the bucket, where boto3 finds none"""
    files_access: FilesAccess = "public"
    """`public` serves outputs and uploads to whoever has their address, as fal does; `key` to their owner and
    administrators (needs keys); what a client's own lifecycle closes is closed in both"""

    @field_validator("keys", mode="before")
    @classmethod
    def _as_yaml_reads_it(cls, value: object) -> object:
        return "off" if value is False else value

    @field_validator("ledger_url")
    @classmethod
    def _of_a_database_that_it_knows(cls, value: str | None) -> str | None:
        if value is not None and not is_reference(value):
            parse(value)
        return value

    @field_validator("token_secret", "other_token_secrets")
    @classmethod
    def _long_enough(cls, value: Any, info: ValidationInfo) -> Any:
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None and not is_reference(one.get_secret_value()):
                _check_length(one.get_secret_value(), str(info.field_name))
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
        """Of what `ledger_url` gives or refers to, or of a SQLite file in `data_dir`. Raises ValueError where there is
        nothing at a reference, or no address of a ledger."""
        if self.ledger_url is None:
            return f"sqlite:///{self.data_dir.absolute() / 'ledger.db'}"
        address = in_clear(self.ledger_url, "gateway.ledger_url")
        try:
            parse(address)
        except ValueError as error:
            raise ValueError(f"gateway.ledger_url: {error}") from error
        return address

    def secret(self) -> str | None:
        """What `token_secret` gives or refers to. Raises ValueError where there is nothing, or too little."""
        return None if self.token_secret is None else _found(self.token_secret, "token_secret")

    def other_secrets(self) -> list[str]:
        """What `other_token_secrets` give or refer to. Raises ValueError as `secret`."""
        return [_found(one, "other_token_secrets") for one in self.other_token_secrets]

    def seeds(self) -> list[str]:
        """What `webhook_keys` give or refer to. Raises ValueError where there is nothing."""
        return [in_clear(key.get_secret_value(), "gateway.webhook_keys") for key in self.webhook_keys]

    def local_state(self) -> tuple[str, ...]:
        """The settings of `gateway.local_state.SHARED` without which a machine has a state of its own. A reference is
        taken for what it should be, an address of PostgreSQL, for it may be read in a replica alone."""
        url = self.ledger_url
        shared = {
            "ledger_url": url is not None and (is_reference(url) or parse(url).get_backend_name() != "sqlite"),
            "token_secret": self.token_secret is not None,
            "webhook_keys": bool(self.webhook_keys),
            "files_url": self.files_url is not None,
        }
        return tuple(name for name in SHARED if not shared[name])

    def secrets_in_clear(self) -> list[str]:
        """The fields that hold a secret itself, which everybody can read who may look at the cluster."""
        found = []
        url = self.ledger_url
        if url is not None and not is_reference(url) and holds_secret(parse(url)):
            found.append("ledger_url")
        if self.token_secret is not None and not is_reference(self.token_secret.get_secret_value()):
            found.append("token_secret")
        for name in ("other_token_secrets", "webhook_keys"):
            if not all(is_reference(one.get_secret_value()) for one in getattr(self, name)):
                found.append(name)
        return found


def _found(given: SecretStr, name: str) -> str:
    secret = in_clear(given.get_secret_value(), f"gateway.{name}")
    _check_length(secret, name)
    return secret


def _check_length(secret: str, name: str) -> None:
    if len(secret) < LEAST_SECRET:
        raise ValueError(f"{name} has {len(secret)} characters, and {LEAST_SECRET} are the least")


class GatewayLimits(BaseModel):
    """What may change while a Gateway lives: its `user_config`. Durations in seconds, sizes in bytes."""

    model_config = STRICT

    max_waiting: int = Field(10_000, gt=0)
    """requests that wait; more are refused with 429"""
    open_calls_of_key: int = Field(128, gt=0)
    """sync runs and their streams that a key may have open (without keys: all callers together), over all replicas;
    more are refused with 429"""
    status_polls_per_s: float = Field(50.0, gt=0)
    """status polls that a replica answers at once; beyond, what would tell nothing new waits up to a second"""
    max_body_bytes: int = Field(25 * MIB, gt=0)
    """of a request"""
    body_grace_s: float = Field(10.0, gt=0)
    """how far a body may fall behind `body_least_bytes_per_s` while it arrives, and so how long it may be silent; then
    408"""
    body_least_bytes_per_s: float = Field(8 * 1024.0, gt=0)
    """the rate that a body is held to"""
    body_timeout_s: float = Field(600.0, gt=0)
    """how long the body of a request is waited for in all"""
    upload_timeout_s: float = Field(3600.0, gt=0)
    """how long the body of an upload is waited for in all"""
    max_upload_bytes: int = Field(512 * MIB, gt=0)
    """of one uploaded file, whole or in parts"""
    uploads_of_key: int = Field(10_000, gt=0)
    """files that a key may have uploaded at once, unfinished ones included (without keys: all callers together); more
    are refused with 403"""
    upload_bytes_of_key: int | None = Field(None, gt=0)
    """bytes of the files that a key may have uploaded at once; more are refused with 403"""
    unfinished_uploads_of_key: int = Field(100, gt=0)
    """uploads in parts that a key may have begun and not completed; more are refused with 429"""
    upload_parts_of_key: int = Field(10_000, gt=0)
    """parts of those together; more are refused with 429"""
    outputs_expire_s: int | None = Field(None, gt=0)
    """how long produced files are kept where the client does not say; none keeps them"""
    uploads_expire_s: int | None = Field(None, gt=0)
    """how long uploaded files are kept where the client does not say; none keeps them"""


class ScalingRules(BaseModel):
    """By what the number of replicas that draw is set, where the config file has the policy
    (`deployments.autoscaling`). Durations in seconds."""

    model_config = STRICT

    wait_s: float = Field(10.0, gt=0)
    """in how long what waits with normal priority should have begun, once the replicas for it are there"""
    low_wait_s: float = Field(60.0, gt=0)
    """likewise with low priority"""
    start_s: float = Field(60.0, ge=0)
    """how long a replica takes to start: what waits is not to be done faster than that, or many would start for work
    that is over when they are there"""
    oldest_wait_s: float = Field(120.0, gt=0)
    """once something of normal priority has waited longer, while every replica draws, there are a quarter more"""
    utilisation: float = Field(0.9, gt=0, le=1)
    """the share of what full replicas do that steady traffic should take"""
    keep_s: float = Field(300.0, ge=0)
    """how long a replica is kept that is not needed"""
    zero_s: float = Field(900.0, ge=0)
    """how long the last one is kept, where `min_replicas` is 0"""
    ms_per_row_step: float = Field(20.0, gt=0)
    """what a row of 1024 x 1024 pixels takes of a UNet call at a full replica, in milliseconds, until it is measured"""
    stale_s: float = Field(10.0, gt=0)
    """after so long without news of the ledger nothing changes"""


class DispatcherLimits(BaseModel):
    """What may change while the Dispatcher lives: its `user_config`. Durations in seconds."""

    model_config = STRICT

    capacity: int = Field(256, gt=0)
    """requests that the dispatcher holds at most; it holds what has a place at a replica (`drawing.rows` rows each),
    what there is room for, what is fetched or delivered, and `look_ahead` more"""
    look_ahead: int = Field(4, gt=0)
    """requests beyond that, which are prepared meanwhile; the more there are, the more are drawn where their weights
    are at hand"""
    key_share: float = Field(0.75, gt=0, le=1)
    """the part of what can be held at once that a key without a `concurrency` of its own may have, so that others find
    a place"""
    stop_grace_s: float = Field(15.0, ge=0)
    """how long a stopping dispatcher lets requests finish that are being drawn; the others go back to their places at
    once; below its `graceful_shutdown_timeout_s`"""
    keep_requests_s: float = Field(30 * DAY_S, gt=0)
    """how long a request that has ended is kept, with its files"""
    keep_unstored_s: float = Field(3600.0, gt=0)
    """how long the result of a request with `X-Fal-Store-IO: 0` can be fetched"""
    sweep_s: float = Field(600.0, gt=0)
    """how often what is over is cleared up"""
    scaling: ScalingRules = ScalingRules()
    """by what the number of replicas that draw is set: the [next table](#what-sets-the-number-of-replicas)"""


LIMITS: Mapping[str, type[GatewayLimits] | type[DispatcherLimits]] = {
    "Gateway": GatewayLimits,
    "Dispatcher": DispatcherLimits,
}
"""By deployment."""


class GatewaySettings(FixedSettings, GatewayLimits, DispatcherLimits):
    """All of them, as a process has them. The limits change in place, so whoever needs one reads it when he does."""

    model_config = ConfigDict(frozen=False)

    @classmethod
    def of(cls, fixed: FixedSettings, *limits: GatewayLimits | DispatcherLimits) -> Self:
        """Of their parts; what is missing has its defaults."""
        given = dict(iter(fixed))  # dict() alone would take the field `keys` for a mapping's method
        for each in limits:
            given |= dict(iter(each))
        return cls.model_validate(given)

    def limit(self, limits: GatewayLimits | DispatcherLimits) -> None:
        """These hold from now on."""
        for name, value in limits:
            setattr(self, name, value)

"""Who may read a file: its owner, whom its lifecycle names, or everybody."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import PlatformError
from gateway.keys.base import Caller, Scope

Decision = Literal["allow", "forbid", "hide"]  # hide: as if there were no such file
FilesAccess = Literal["public", "key"]
MAX_RULES = 20  # of a file


class AclRule(BaseModel):
    """What holds for one user. user: the id of an API key of this service."""

    model_config = ConfigDict(frozen=True)

    user: str = Field(max_length=128)
    decision: Decision


class Acl(BaseModel):
    """fal's `initial_acl` (fal-protocol 6.4). The first rule for a user counts before the default."""

    model_config = ConfigDict(frozen=True)

    default: Decision = "allow"
    rules: tuple[AclRule, ...] = Field((), max_length=MAX_RULES)


def decide(owner: str, acl: Acl | None, caller: Caller, access: FilesAccess) -> Decision:
    """What a caller gets of a file.

    access: `public` lets everybody read what its acl does not close; `key` keeps every file to its owner, to
    administrators, and to the keys that its acl names.
    """
    if Scope.ADMIN in caller.scopes or (owner and owner == caller.key):
        return "allow"
    acl = acl or Acl()
    for rule in acl.rules:
        if caller.key and rule.user == caller.key:
            return rule.decision
    return "hide" if access == "key" and acl.default == "allow" else acl.default


OF_UPLOADS = ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference")
OF_OUTPUTS = ("x-fal-object-lifecycle-preference",)
MAX_HEADER = 1000  # characters: a bucket keeps at most 2 kB of metadata with an object
MAX_EXPIRATION_S = 100 * 365 * 24 * 3600


class Lifecycle(BaseModel):
    """Without a duration a file is kept as settings say. Fields that fal may add are not looked at."""

    model_config = ConfigDict(frozen=True)

    expiration_duration_seconds: int | None = Field(None, ge=1, le=MAX_EXPIRATION_S)
    initial_acl: Acl | None = None

    def expires_in_s(self, default_s: int | None) -> int | None:
        """Seconds from the creation of a file to its end; None keeps it. default_s: what settings say."""
        return default_s if self.expiration_duration_seconds is None else self.expiration_duration_seconds


def lifecycle_of(headers: Mapping[str, str], names: tuple[str, ...]) -> Lifecycle:
    """What the first header of `names` that is there asks for. Raises PlatformError (400) for what it must not say."""
    name = next((name for name in names if name in headers), None)
    if name is None:
        return Lifecycle()
    text = headers[name]
    if len(text) > MAX_HEADER:
        raise PlatformError("bad_request", f"The header {name} is longer than {MAX_HEADER} characters.")
    try:
        return Lifecycle.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "its JSON"
        raise PlatformError("bad_request", f"The header {name} is not valid: {where}: {first['msg']}.") from None

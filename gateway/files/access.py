"""Who may read a file: its owner, whom its lifecycle names, or everybody."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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

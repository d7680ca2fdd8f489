"""Who reads a file, by its owner, its acl and the setting."""

import pytest

from gateway.keys.base import Caller, Scope
from gateway.policy import Acl, AclRule, Decision, FilesAccess, decide

NOBODY = Caller(scopes=frozenset())
OTHER = Caller("other", frozenset({Scope.RUN}))
OPEN = Caller()  # of a service without keys


def acl(default: Decision, **rules: Decision) -> Acl:
    return Acl(default=default, rules=tuple(AclRule(user=user, decision=said) for user, said in rules.items()))


@pytest.mark.parametrize(
    ("access", "said", "caller", "decision"),
    [
        ("public", None, NOBODY, "allow"),
        ("key", None, NOBODY, "hide"),
        ("key", None, OTHER, "hide"),
        ("key", None, OPEN, "allow"),
        ("key", acl("allow"), OTHER, "hide"),
        ("key", acl("forbid"), OTHER, "forbid"),
        ("key", acl("hide", other="allow"), OTHER, "allow"),
        ("public", acl("hide"), NOBODY, "hide"),
        ("public", acl("forbid"), OTHER, "forbid"),
        ("public", acl("allow", other="forbid"), OTHER, "forbid"),
        ("public", acl("allow", other="forbid"), NOBODY, "allow"),
        ("public", Acl(rules=(AclRule(user="", decision="hide"),)), NOBODY, "allow"),
    ],
)
def test_what_others_get(access: FilesAccess, said: Acl | None, caller: Caller, decision: Decision) -> None:
    assert decide("owner", said, caller, access) == decision


@pytest.mark.parametrize("access", ["public", "key"])
def test_the_owner_reads_whatever_it_said(access: FilesAccess) -> None:
    owner = Caller("owner", frozenset({Scope.RUN}))
    assert decide("owner", acl("hide", owner="forbid"), owner, access) == "allow"


def test_a_file_without_an_owner_is_not_everybodys() -> None:
    assert decide("", None, NOBODY, "key") == "hide"

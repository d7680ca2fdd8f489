"""Keeping a state that is one machine's on one machine.

Two machines with a state each, a SQLite file or a folder or secrets that they have made, look like one service and are
two. So the app is refused where several nodes can host what uses such a state (`check_nodes`, when it is built), and
each replica that uses it asks at its start whether its node is the one that has it (`check_home`): nodes come later,
and die.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import ray
from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from deployments.nodes import Node, living_nodes
from deployments.placement import Options
from gateway.local_state import identity_in, identity_of, to_write
from gateway.settings import FixedSettings

USERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ledger_url": ("Gateway", "Dispatcher"),
        "token_secret": ("Gateway", "Postprocessor"),
        "webhook_keys": ("Gateway", "Dispatcher"),
        "files_url": ("Gateway", "Dispatcher", "Preprocessor", "Postprocessor"),
    }
)
"""By setting of `gateway.local_state.SHARED`: the deployments that use what it is about."""

Opened = TypeVar("Opened")

NAMESPACE = b"fooocus-serve"  # of Ray's own store of keys and values, which lives as long as the cluster
PAGE = "docs/operations.md, Several machines"


@dataclass(frozen=True, slots=True)
class Home:
    """Where the state of a service is. identity: of what is kept in `data_dir` there; None where nothing is yet."""

    node: str
    address: str
    identity: str | None


def check_nodes(settings: FixedSettings, options: Mapping[str, Options], nodes: Sequence[Node]) -> None:
    """Raises ValueError where several nodes can host what uses a state that is one machine's."""
    if not (local := settings.local_state()):
        return
    users = users_of(local)
    hosts = [node for node in nodes if any(can_host(node, options[name]) for name in users)]
    if len(hosts) > 1:
        raise ValueError(
            f"{_of_one(local)}, and {len(hosts)} nodes ({', '.join(node.address for node in hosts)}) can host "
            f"{' or '.join(users)}: {_what_to_do(local)}"
        )


def users_of(local: Iterable[str]) -> list[str]:
    """The deployments that use what these settings are about."""
    return list(dict.fromkeys(name for setting in local for name in USERS[setting]))


def can_host(node: Node, options: Options) -> bool:
    """Whether a node could have a replica of a deployment with these options, were it idle."""
    actor = options.get("ray_actor_options") or {}
    selectors = [actor.get("label_selector") or {}]
    selectors += [other.get("label_selector") or {} for other in actor.get("fallback_strategy") or []]
    if not any(node_labels_match_selector(dict(node.labels), selector) for selector in selectors):
        return False
    # Serve books a whole CPU where nothing is said, but what is placed as a group books in its bundles
    booked = {} if options.get("placement_group_bundles") else {"CPU": actor.get("num_cpus", 1)}
    booked |= {"GPU": actor.get("num_gpus"), "memory": actor.get("memory"), **(actor.get("resources") or {})}
    if kind := actor.get("accelerator_type"):
        booked[f"accelerator_type:{kind}"] = 0.001  # as Ray does
    return all(node.resources.get(name, 0) >= amount for name, amount in booked.items() if amount)


def settle(known: Home | None, here: Home, alive: Collection[str], local: Sequence[str]) -> Home:
    """Where the state is from now on, for a replica that would use it `here`. Raises ValueError where it is elsewhere.

    known: where it was. alive: the nodes that live.
    """
    if known is None or known.node == here.node:
        return here
    if known.node in alive:
        raise ValueError(
            f"{_of_one(local)}, the node {known.address}, and this replica is on the node {here.address}: "
            f"{_what_to_do(local)}"
        )
    if here.identity is not None and here.identity == known.identity:
        return here  # its disk has come to another node
    raise ValueError(
        f"{_of_one(local)}, and that one, the node {known.address}, is gone: this replica is on the node "
        f"{here.address}, whose data_dir holds something else, or nothing. Bring the disk or a backup of it to this "
        "node, or to begin anew name another folder as gateway.data_dir. So that it does not happen again, write "
        f"{to_write(local)} ({PAGE})"
    )


def check_cluster(settings: FixedSettings, options: Callable[[], Mapping[str, Options]]) -> None:
    """`check_nodes` of the cluster that this process is connected to, if it is. options: asked where there is need."""
    if settings.local_state() and ray.is_initialized() and len(nodes := living_nodes()) > 1:
        check_nodes(settings, options(), nodes)


def check_home(settings: FixedSettings, deployment: str) -> None:
    """Before a replica uses what of the state is one machine's, if it uses any: that this node is where it is.

    Raises ValueError, also where there is nothing at the reference of a ledger that it uses, and OSError.
    """
    local = [name for name in settings.local_state() if deployment in USERS[name]]
    if deployment in USERS["ledger_url"] and "ledger_url" not in local and settings.ledger_address.startswith("sqlite"):
        local.insert(0, "ledger_url")  # a file is at the reference
    if not local or not ray.is_initialized():
        return
    nodes = living_nodes()
    node = ray.get_runtime_context().get_node_id()
    here = Home(node, next(each.address for each in nodes if each.id == node), identity_in(settings.data_dir))
    _remember(settings.data_dir, here, {each.id for each in nodes}, local)


def open_at_home(settings: FixedSettings, deployment: str, opener: Callable[[], Opened]) -> Opened:
    """What `opener` opens in a replica, which uses the state. Raises as `check_home`."""
    check_home(settings, deployment)
    return opener()


def _remember(data_dir: Path, here: Home, alive: Collection[str], local: Sequence[str]) -> None:
    key = str(data_dir.absolute()).encode()
    while True:
        stored = _internal_kv_get(key, namespace=NAMESPACE)
        known = None if stored is None else Home(**json.loads(stored))
        settled = settle(known, here, alive, local)
        settled = replace(settled, identity=identity_of(data_dir))
        if settled == known:
            return
        if known is not None:
            _internal_kv_del(key, namespace=NAMESPACE)
        # of replicas that start together on several nodes one is first, and the others are told so in the next round
        _internal_kv_put(key, json.dumps(asdict(settled)).encode(), overwrite=False, namespace=NAMESPACE)


def _of_one(local: Sequence[str]) -> str:
    said = f"gateway.{' and '.join(local)}" if len(local) > 1 else f"gateway.{local[0]}"
    return f"Without {said} what is kept belongs to one machine"


def _what_to_do(local: Sequence[str]) -> str:
    return (
        f"write {to_write(local)}, or keep these deployments on one node by a label_selector in their "
        f"ray_actor_options ({PAGE})"
    )

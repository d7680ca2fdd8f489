"""Before something is taken away: `python -m deployments.drain [APPLICATION]` before the service is shut down, and
`python -m deployments.drain --node --within SECONDS` on a node that is to go, while the service goes on elsewhere.
"""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

APPLICATION = "fooocus"
PATIENCE_S = 900.0
LOOK_S = 1.0  # between two looks at what a node still has


def drain(application: str, patience_s: float) -> None:
    """Let the dispatcher tell clients that wait, and put back what is not finished, while there still is a proxy.

    Raises what Ray raises where the dispatcher does not answer, and NobodyLeads where one is just taking over: then its
    lease brings back what the last one held.
    """
    from ray import serve

    from deployments.leader import LeaderHandle

    async def ask() -> None:
        await LeaderHandle(serve.get_deployment_handle("Dispatcher", application), patience_s).ask("drain")

    asyncio.run(ask())


def leave(within_s: float) -> bool:
    """Let Serve start elsewhere what runs on this node, and stop it here when it has: whether nothing is left, neither
    a replica nor a proxy through which somebody is being answered.

    After within_s the node goes whatever is on it: what needs longer to finish is stopped earlier, by its
    `graceful_shutdown_timeout_s`. Raises RuntimeError where Ray refuses.
    """
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]
    from ray.serve.context import _get_global_client

    end = time.time() + within_s
    context = ray.get_runtime_context()
    node, reason = context.get_node_id(), DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    taken, refusal = GcsClient(address=context.gcs_address).drain_node(node, reason, "it is to go", int(end * 1000))
    if not taken:
        raise RuntimeError(f"Ray does not let this node go: {refusal}")

    def details() -> Mapping[str, Any]:
        return details_of(_get_global_client(raise_if_no_controller_running=False))

    return empty(node, details, end)


def details_of(client: Any) -> Mapping[str, Any]:
    """What Serve tells of itself; client: None where there is no Serve, and so no replica."""
    nothing: Mapping[str, Any] = {"applications": {}, "proxies": {}}
    found: Mapping[str, Any] = nothing if client is None else client.get_serve_details()
    return found


def empty(node: str, details: Callable[[], Mapping[str, Any]], end: float) -> bool:
    """Wait until a node has nothing of Serve: whether that was so before `end`. details: what Serve tells of itself."""
    while time.time() < end:
        with suppress(Exception):  # a controller that is just away: it knows of the node when it is back
            if node not in nodes_in(details()):
                return True
        time.sleep(LOOK_S)
    return False


def nodes_in(details: Mapping[str, Any]) -> set[str]:
    """The nodes that have replicas of any application, be they starting or stopping, or a proxy.

    A proxy outlives the last replica of its node until the calls that came through it are answered, half a minute at
    least, in which load balancers find out that it takes no more. The one beside the controller always stays.
    """
    replicas = {
        replica["node_id"]
        for application in details["applications"].values()
        for deployment in application["deployments"].values()
        for replica in deployment["replicas"]
    }
    return replicas | ({*details["proxies"]} - {details.get("controller_info", {}).get("node_id")})


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.drain", description=__doc__)
    parser.add_argument("application", nargs="?", default=APPLICATION)
    parser.add_argument("--node", action="store_true", help="this node alone")
    parser.add_argument("--within", type=float, default=PATIENCE_S, help="so many seconds")
    given = parser.parse_args(arguments)
    import ray

    ray.init(address="auto", namespace="serve", logging_level=logging.WARNING)
    if given.node:
        if leave(given.within):
            print("Drained: this node has no replica, and nobody is answered through it.")
            return 0
        print(
            f"This node still has replicas, or calls that come through it, after {given.within:g} seconds.",
            file=sys.stderr,
        )
        return 1
    drain(given.application, given.within)
    print("Drained: nothing is held. Shut the service down now, or it begins again.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

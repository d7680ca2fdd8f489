"""Draining a running service before it is shut down: `python -m deployments.drain [application]` on a node of it."""

import logging
import sys
from typing import Any

APPLICATION = "fooocus"
PATIENCE_S = 900.0


def drain(application: str, patience_s: float) -> None:
    """Let the dispatcher tell clients that wait, and put back what is not finished, while there still is a proxy.

    Raises what Ray raises where the dispatcher does not answer: then its lease brings back what it holds.
    """
    from ray import serve

    dispatcher: Any = serve.get_deployment_handle("Dispatcher", application)
    dispatcher.drain.remote().result(timeout_s=patience_s)


def main(arguments: list[str]) -> int:
    """The exit code."""
    import ray

    ray.init(address="auto", namespace="serve", logging_level=logging.WARNING)
    drain(arguments[0] if arguments else APPLICATION, PATIENCE_S)
    print("Drained: nothing is held. Shut the service down now, or it begins again.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

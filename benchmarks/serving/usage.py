"""CPU seconds of a Ray cluster that this process has started, by whom they are spent for."""

from collections import Counter
from collections.abc import Mapping

import psutil

PROXY, RAY = "proxy", "ray"
_REPLICA, _PROXY = "ray::ServeReplica:", "ray::ProxyActor"


class Usage:
    """The processes as they are now: replicas by application, the proxy that all share, and the rest of Ray.

    A process that ends is a fault of the measurement, and raises.
    """

    def __init__(self) -> None:
        self._processes = {each: _whose(each) for each in psutil.Process().children(recursive=True)}

    def replicas(self) -> Mapping[str, int]:
        """How many each application has."""
        return Counter(whose.partition("/")[0] for whose in self._processes.values() if whose not in (PROXY, RAY))

    def seconds(self) -> Mapping[str, float]:
        """CPU seconds until now of each application's replicas, of these by `application/deployment`, of the proxy and
        of Ray itself."""
        found: Counter[str] = Counter()
        for process, whose in self._processes.items():
            try:
                spent = process.cpu_times()
            except psutil.NoSuchProcess:
                if whose == RAY:  # it starts and ends workers as it likes
                    continue
                raise
            for name in {whose, whose.partition("/")[0]}:
                found[name] += spent.user + spent.system
        return found


def whose_title(title: str) -> str:
    """Whose a process is by its title, which Ray writes: `ray::ServeReplica:application:deployment.method`; of a
    replica `application/deployment`."""
    title = title.rstrip("\0 ")  # as long as the command that it replaced
    if title.startswith(_REPLICA):
        application, deployment = title.removeprefix(_REPLICA).split(":")[:2]
        return f"{application}/{deployment.partition('.')[0]}"
    return PROXY if title.startswith(_PROXY) else RAY


def _whose(process: psutil.Process) -> str:
    return whose_title(" ".join(process.cmdline()))

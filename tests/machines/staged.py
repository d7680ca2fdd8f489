"""A cluster of machines on this one, with the stores of a production one: PostgreSQL, an S3 server and Redis.

A start took 12 s for the head and 5 s for each further node on two cores; a head has 1.7 GB resident (most of it Ray's
dashboard), another node 0.5 GB, each replica 0.15 GB, or 0.35 GB with torch.
"""

import base64
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import yaml

from tests.cluster import ROOT
from tests.gateway.files import s3_server
from tests.gateway.ledger import postgresql
from tests.kills.serving import HOLD
from tests.machines import network, redis_server
from tests.machines.balancer import Balancer, balancing
from tests.machines.config import FAMILY, SECRETS, environment_of_nodes, production
from tests.machines.node import DATA, PATIENCE, Node, program

DEPLOYED_S = 240.0
APPLICATION = "fooocus"
OUT = "FOOOCUS_TEST_OUT"  # a folder for what was seen and logged, to be looked at afterwards; nothing stays without it


@dataclass
class Machines:
    """ledger: the address of its database, as the nodes and this machine have it."""

    home: Path
    network: network.Network
    database: postgresql.Server
    bucket: s3_server.S3Server
    redis: redis_server.Redis
    balancer: Balancer
    ledger: str
    environment: Mapping[str, str]
    mounts: Mapping[Path, Path]
    nodes: list[Node] = field(default_factory=list)

    @property
    def head(self) -> Node:
        return self.nodes[0]

    @property
    def address(self) -> str:
        """Of the service, whichever node answers."""
        return f"http://127.0.0.1:{self.balancer.port}"

    def production(self) -> dict[str, Any]:
        """The config file of production, as it is on these machines."""
        return production(self.address, self.bucket.endpoint_url)

    @property
    def secrets(self) -> dict[str, str]:
        """Whatever must be shown nowhere, by what it opens."""
        files = {name: (self.home / "secrets" / name).read_text() for name in ("token_secret", "webhook_key")}
        stores = {"database": self.database.password, "bucket": self.bucket.secret, "redis": self.redis.password}
        return {**files, **stores, "ray": self.environment["RAY_AUTH_TOKEN"]}

    @property
    def hold(self) -> Path:
        """While this file is there, the holding engine holds what it draws."""
        return Path(self.environment[HOLD])

    def deploy(self, content: Mapping[str, Any]) -> None:
        """Give it this config file, as an operator does on the head, and wait until it runs and draws."""
        self.give(content)
        self.wait_until_it_runs()

    def give(self, content: Mapping[str, Any]) -> None:
        file = self.home / "serve_config.yaml"
        file.write_text(yaml.safe_dump(dict(content)))
        self.head.run(sys.executable, "-m", "deployments.config_file", str(file))
        self.head.run(program("serve"), "deploy", str(file))

    def wait_until_it_runs(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """meanwhile: called between two looks."""
        end = time.monotonic() + DEPLOYED_S
        while (status := self.status())["status"] != "RUNNING":
            if time.monotonic() > end or status["status"] == "DEPLOY_FAILED":
                raise AssertionError(json.dumps(status, indent=1))
            meanwhile()
            time.sleep(1)
        while not self.is_ready():
            assert time.monotonic() < end, "it runs, and is not ready"
            time.sleep(0.5)

    def is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.address}/ready", timeout=10, trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def status(self) -> dict[str, Any]:
        """What Serve says of the application, where `serve status` asks, which would take seconds of a core. Of a head
        that is just starting, that it cannot be asked."""
        try:
            told = json.loads(self.dashboard("/api/serve/applications/"))
        except (AssertionError, ValueError):
            return {"status": "UNREACHABLE"}
        found: dict[str, Any] = told["applications"].get(APPLICATION, {"status": "NOT_STARTED"})
        return found

    def dashboard(self, path: str) -> str:
        """What Ray's dashboard answers there."""
        token = f"Authorization: Bearer {self.environment['RAY_AUTH_TOKEN']}"
        return self.head.run("curl", "-sS", "-H", token, f"http://127.0.0.1:8265{path}")

    def running(self, deployment: str) -> int:
        """How many replicas of it Serve says are running."""
        return sum(one["state"] == "RUNNING" for one in self.listed(deployment))

    def replicas(self, deployment: str) -> dict[str, int]:
        """How many processes of its replicas each node has."""
        return {node.name: len(node.processes(f":{deployment}")) for node in self.nodes if node.runs}

    def listed(self, deployment: str) -> list[dict[str, Any]]:
        """What Serve says of each replica of it: `replica_id`, `state`, `node_ip` and more."""
        found: list[dict[str, Any]] = self.status().get("deployments", {}).get(deployment, {}).get("replicas", [])
        return found

    def leading(self) -> Node:
        """The one with the Dispatcher that leads."""
        with psycopg.connect(self.ledger) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM leader")}
        address = next(one["node_ip"] for one in self.listed("Dispatcher") if one["replica_id"] in names)
        return next(node for node in self.nodes if node.address == address)

    def new_key(self, *options: str) -> str:
        """What a client shows."""
        made = self.head.run(
            *(sys.executable, "-m", "gateway.keys", "--data-dir", str(DATA), "--ledger-url", "env:LEDGER_URL"),
            *("create", "tests", "--json", "--new", *options),
        )
        return str(json.loads(made.splitlines()[-1])["credentials"])

    def rows(self, columns: str, where: str = "true", given: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Of the ledger's requests."""
        with psycopg.connect(self.ledger) as connection:
            return connection.execute(f"SELECT {columns} FROM request WHERE {where}", given).fetchall()  # noqa: S608 (ours)

    def add(self, name: str, cpus: int, gpus: int, labels: Mapping[str, str]) -> Node:
        """A node that has joined: the head if it is the first. All but the head are behind the balancer."""
        namespace, address = self.network.join()
        environment = dict(self.environment)
        if not self.nodes:
            environment["RAY_REDIS_ADDRESS"] = self._redis_address()
        password = "" if self.nodes else self.redis.password
        node = Node(name, namespace, address, self.home / name, environment, self.mounts, cpus, gpus, labels, password)
        self.nodes.append(node)
        if node is not self.head:
            self.balancer.watch(address)
        node.start(None if node is self.head else self.head)
        return node

    def keep_logs(self, folder: Path) -> None:
        """A copy of what Serve's processes have logged, by node."""
        for node in self.nodes:
            if (node.logs / "serve").exists():
                shutil.copytree(node.logs / "serve", folder / node.name, dirs_exist_ok=True)

    def _redis_address(self) -> str:
        return f"{self.redis.address}:{self.redis.port}"


@contextmanager
def staged(family: Path, more: Mapping[str, str] | None = None) -> Iterator[Machines]:
    """Stores and a network, to which nodes are added. more: of the nodes' environment. Nothing is left of it, but the
    logs where a test has failed."""
    home = Path(tempfile.mkdtemp(prefix="machines-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        for folder in (DATA, SECRETS):  # over which nodes mount theirs, so that it is empty here
            if not folder.exists():
                folder.mkdir(parents=True)
                stack.callback(folder.rmdir)
        net = stack.enter_context(network.laid())
        redis = stack.enter_context(redis_server.serving(net.address))
        database = stack.enter_context(postgresql.serving(net.address))
        bucket = stack.enter_context(s3_server.serving(net.address))
        balancer = stack.enter_context(balancing())
        ledger = database.create("machines")
        environment = {
            **PATIENCE,
            **bucket.environment(),
            **environment_of_nodes(),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "LEDGER_URL": ledger,
            "PYTHONPATH": str(ROOT),
            HOLD: str(home / "hold"),
            **(more or {}),
        }
        (home / "secrets").mkdir(mode=0o700)
        (home / "secrets" / "token_secret").write_text(secrets.token_hex(32))
        (home / "secrets" / "webhook_key").write_text(base64.b64encode(secrets.token_bytes(32)).decode())
        mounts = {SECRETS: home / "secrets", FAMILY: family}
        machines = Machines(home, net, database, bucket, redis, balancer, ledger, environment, mounts)
        try:
            yield machines
        finally:
            for node in reversed(machines.nodes):
                node.kill()
            if OUT in os.environ:
                machines.keep_logs(Path(os.environ[OUT]) / "logs")

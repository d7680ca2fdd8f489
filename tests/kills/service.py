"""A service in processes of its own, as `make serve` starts it: to be killed and started again."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.cluster import ROOT
from tests.deployments.fakes import wait_until
from tests.kills.serving import HOLD

READY_S = 120


@dataclass
class Served:
    """The service of one configuration file. engine: `fake` or `pocket`. tls: over https."""

    config: Path
    port: int
    engine: str
    tls: bool
    environment: Mapping[str, str]
    process: subprocess.Popen[str]

    @classmethod
    def start(
        cls,
        folder: Path,
        port: int,
        engine: str,
        family: Path,
        *,
        tls: bool = False,
        gateway: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Served":
        """gateway: settings of it besides those of the tests. limits: of the dispatcher, likewise. environment:
        variables besides those of this process."""
        config = folder / "config.yaml"
        if not config.exists():
            config.write_text(yaml.safe_dump(_configured(folder, family, gateway or {}, limits or {})))
        environment = environment or {}
        served = cls(config, port, engine, tls, environment, _launch(config, port, engine, tls, environment))
        served._wait()
        return served

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.config.parent / "var"

    @property
    def address(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def hold(self) -> Path:
        """While this file is there, the fake engine holds what it draws."""
        return _hold(self.config)

    def replica_logs(self) -> list[Path]:
        """The log files of its replicas, of which there is one for each."""
        named = (re.search(r"/tmp/fooocus-[^/\s]+/session_[^/\s]+", _title(process)) for process in self._processes())
        session = next(found[0] for found in named if found)
        return sorted(Path(session, "logs", "serve").glob("replica_*.log"))

    def kill(self, title: str) -> None:
        """kill -9 every process of this service whose title holds `title`, as Ray gives its actors' processes one."""
        for process in self._titled(title):
            process.kill()

    def _titled(self, title: str) -> list[psutil.Process]:
        titles = {process: _title(process) for process in self._processes()}
        found = [process for process, name in titles.items() if name.startswith("ray::") and title in name]
        assert found, f"no process is {title}: {sorted(name[:60] for name in titles.values())}"
        return found

    @contextmanager
    def suspended(self, title: str) -> Iterator[None]:
        """Stop the processes of that title for a while, as a machine that hangs does (SIGSTOP, SIGCONT)."""
        stopped = self._titled(title)
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):  # Serve may have replaced it
                    process.resume()

    def kill_all(self) -> None:
        """kill -9 every process of this service."""
        processes = self._processes()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=20)
        self.process.wait(20)

    def start_again(self) -> None:
        self.process = _launch(self.config, self.port, self.engine, self.tls, self.environment)
        self._wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill_all()

    def _processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [*parent.children(recursive=True), parent]

    def _wait(self) -> None:
        log = self.config.with_suffix(".log")
        wait_until(lambda: "is ready on" in log.read_text() or self.process.poll() is not None, READY_S)
        assert self.process.poll() is None, log.read_text()


def _hold(config: Path) -> Path:
    return config.with_suffix(".hold")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _launch(config: Path, port: int, engine: str, tls: bool, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.kills.serving", engine, "--config", str(config), "--port", str(port)]
    command += ["--tls"] if tls else []
    with config.with_suffix(".log").open("w") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment, HOLD: str(_hold(config))},
        )


def _configured(folder: Path, family: Path, gateway: Mapping[str, Any], limits: Mapping[str, Any]) -> Any:
    content = yaml.safe_load((ROOT / "serve_config.local.yaml").read_text())
    arguments = content["applications"][0]["args"]
    # leases that are soon over, so that a test need not wait long for a lost dispatcher's
    arguments["gateway"] |= {"data_dir": str(folder / "var"), "lease_s": 5, "allow_loopback_urls": True, **gateway}
    arguments["drawing"]["family"] = str(family)
    arguments["drawing"]["rows"] = 16  # eight guided requests are drawn at once
    (dispatcher,) = [one for one in content["applications"][0]["deployments"] if one["name"] == "Dispatcher"]
    dispatcher["user_config"] |= limits
    return content

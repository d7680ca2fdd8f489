"""`make serve`: Ray, Serve and the app on this machine alone, until Ctrl-C."""

import argparse
import asyncio
import errno
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from deployments.binding import is_loopback
from deployments.own_ray import cores, ignore_signals, interrupt, metrics_address, own_ray, prepare_environment
from deployments.starting import Starting
from pipelines.catalogue import family_folder

CONFIGS: Mapping[str, Path] = {"cpu": Path("serve_config.local.yaml"), "cuda": Path("serve_config.gpu.yaml")}
FIRST_KEY = "first"  # the name of the API key that a service has which others can reach
LAST_PORT = 65_535
PORT_EXAMPLE = "make serve PORT=9000"
READY_TIMEOUT_S = 120.0
DRAIN_S = 15.0  # beyond the grace of requests that are drawn, for what the dispatcher then writes
# where to ask a server that listens on every address
_ANYWHERE: Mapping[str, str] = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong with an option as everything else that keeps a service from starting is told."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main() -> int:
    """Serve until a signal; the exit code."""
    parser = _Parser(prog="python -m deployments.serve_local", description=__doc__)
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--device", choices=CONFIGS, default="cpu", help="with the config file that is for it")
    given.add_argument("--config", type=Path, help="instead of the device's")
    parser.add_argument("--family", help="the name of one in var/families (FOOOCUS_FAMILIES), or its folder")
    parser.add_argument("--host", help="instead of the file's; where others reach it, callers need a key")
    parser.add_argument("--port", type=_port, help="instead of the file's")
    parser.add_argument("--tls", action="store_true", help="serve https, with a certificate made in the data folder")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        arguments = parser.parse_args()
        config = arguments.config or CONFIGS[arguments.device]
        serve(config, arguments.port, arguments.tls, arguments.family, arguments.host)
    except KeyboardInterrupt:
        pass  # the way to end it
    except (OSError, ValueError, RuntimeError) as error:
        print(f"Fooocus Serve could not start: {error}", file=sys.stderr)
        return 1
    return 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= LAST_PORT):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no port, which is a number from 1 to {LAST_PORT}: {PORT_EXAMPLE}"
        )
    return int(text)


def serve(config: Path, port: int | None, tls: bool, family: str | None, host: str | None) -> None:
    """Start everything that the config file says, say when it is ready, and stop it all on KeyboardInterrupt.

    tls: with a certificate of its own, unless the file names one. family: instead of the file's, by name or folder.
    host: instead of the file's; where that is not this machine alone, callers need a key whatever the file says.
    """
    starting = Starting()
    prepare_environment()
    file = _read(config)
    options = file.serve.http_options.model_dump()
    if port is not None:
        options["port"] = port
    settings = file.settings if family is None else _with_family(file.settings, family)
    stop_grace_s = file.gateway().stop_grace_s
    if host is not None:
        options["host"] = host
        settings = _reached_at(settings, host)
    _check_port(options["host"], options["port"])
    _check_family(settings.drawing.family)
    settings.drawing.phrasebook()  # what is wrong with its folders is told here in one sentence, as well
    _check_devices(settings)
    _check_secrets(settings.gateway)
    # here it is told in one sentence what keeps a ledger from being opened, and not in the tracebacks of replicas
    asyncio.run(_open_ledger(settings.gateway))
    trusted = _with_certificate(options, settings.gateway) if tls else None
    scheme = "https" if options["ssl_certfile"] else "http"
    address = f"{scheme}://{_in_address(options['host'])}:{options['port']}"
    with own_ray(starting):
        import ray
        from ray import serve as ray_serve

        from deployments.app import place_app

        resources: Any = ray.cluster_resources  # untyped
        placed = _with_gpus(file.options, resources().get("GPU", 0))
        with starting.step("Starting the service"):
            ray_serve.start(
                proxy_location=file.serve.proxy_location,
                http_options=options,
                tracing_config=file.serve.tracing_config,
            )
            application = file.serve.applications[0]
            try:
                ray_serve.run(
                    place_app(_with_threads(settings), placed),
                    name=application.name,
                    route_prefix=application.route_prefix,
                    logging_config=application.logging_config or file.serve.logging_config,
                )
            except RuntimeError as error:
                raise RuntimeError(_why(application.name) or str(error)) from error
            _wait_until_ready(address)
        starting.say(f"Fooocus Serve is ready on {address}")
        print(f"Metrics for Prometheus: {metrics_address()}", flush=True)
        if trusted is not None:
            print(f"Clients trust it by SSL_CERT_FILE={trusted} or NODE_EXTRA_CA_CERTS={trusted}", flush=True)
        if not is_loopback(options["host"]):
            asyncio.run(_show_first_key(settings.gateway, scheme))
        try:
            while True:
                # a lock is left broken by two signals at once, and one that another thread takes does not end a wait
                time.sleep(1.0)
        finally:
            _drain(application.name, stop_grace_s)


def _read(config: Path) -> Any:
    from deployments.config_file import read

    if not config.exists():
        raise ValueError(
            f"there is no config file {config.absolute()}: write to CONFIG one that is there, or leave it away: "
            f"`make serve` then takes {CONFIGS['cpu']}"
        )
    return read(config)


def _with_family(settings: Any, name: str) -> Any:
    drawing = settings.drawing.model_copy(update={"family": family_folder(name).absolute()})
    return settings.model_copy(update={"drawing": drawing})


def _reached_at(settings: Any, host: str) -> Any:
    """The settings of a service at `host`: where others reach it, with keys, and closed to what is on this machine.

    Raises ValueError where they hold what they may not hold then.
    """
    if is_loopback(host):
        return settings
    gateway = settings.gateway.model_copy(update={"keys": "required", "allow_loopback_urls": False})
    found = settings.model_copy(update={"gateway": gateway})
    found.check_secrets()
    return found


async def _show_first_key(settings: Any, scheme: str) -> None:
    """Print, not log, the key that the first start makes; nobody sees it again."""
    credentials = await _first_key(settings)
    if credentials is None:
        print(f"Callers need a key; `{_create_command(settings)}` makes another.", flush=True)
    else:
        print("There was no API key, so this one was made; it is shown this once:", flush=True)
        print(f"FAL_KEY={credentials}", flush=True)
    if scheme == "http":
        print("Without TLS=1 or a TLS proxy in front, keys and pictures cross the network in clear.", flush=True)


def _create_command(settings: Any) -> str:
    """The command that makes a key in these settings' ledger, without its address, which may hold a password."""
    options = ""
    if settings.data_dir.absolute() != Path("var").absolute():
        options += f" --data-dir {quote(str(settings.data_dir))}"
    if settings.ledger_url:
        options += " --ledger-url LEDGER_URL"
    return f".venv/bin/python -m gateway.keys{options} create NAME"


async def _first_key(settings: Any) -> str | None:
    """The credentials of a new key, which nothing keeps in clear; None where the service has ever had one."""
    from gateway.keys.base import KeyLimits, Scope
    from gateway.keys.sql import SqlKeys

    keys = await SqlKeys.open(settings.ledger_address)
    try:
        if await keys.all():
            return None
        return (await keys.create(FIRST_KEY, [Scope.RUN, Scope.STORAGE], KeyLimits())).credentials
    finally:
        await keys.close()


def _check_devices(settings: Any) -> None:
    """Raises ValueError, with what to do, where a device of the settings is not here."""
    for part in ("drawing", "checking", "expanding"):
        field, device = f"{part}.device", getattr(settings, part).device
        if device == "cpu":
            continue
        from pipelines.device import lacks  # takes seconds, for it imports torch

        if (why := lacks(device)) is not None:
            raise ValueError(f"{field} is {device}, but {why}: set it to cpu (make serve without DEVICE=cuda)")


def _check_family(folder: Path) -> None:
    """Raises ValueError, with what to do, for a family that cannot be served."""
    from pipelines.catalogue import FILE, Catalogue
    from pipelines.errors import WeightsFault
    from pipelines.weights.integrity import check_files

    if not (folder / FILE).is_file():
        raise ValueError(
            f"there is no model family in {folder}: {_bringing(folder)}; without MODEL and DEVICE `make serve` writes "
            "the pocket one and serves it"
        )
    try:
        # as the replicas do it, which are slower to say so
        check_files(Catalogue.open(folder), all_bytes=False)
    except WeightsFault as fault:
        raise ValueError(str(fault)) from fault


def _bringing(folder: Path) -> str:
    """A clause that says what brings the family which is not in `folder`."""
    from models.pull_presets import PRESETS, command_for

    if (command := command_for(folder)) is not None:
        trust = " (the option says that you trust its pickles: docs/models.md)" if "--accept" in command else ""
        return f"`{command}` brings it{trust}"
    return (
        f"{folder.name} is none of those that `make pull` brings ({', '.join(PRESETS)}), and "
        f"`.venv/bin/python -m models import FILE --name {quote(folder.name)}` makes one of a checkpoint of yours"
    )


def _why(application: str) -> str | None:
    """Which deployment of an application does not start, and the last that its replicas say of it."""
    from ray import serve as ray_serve

    deployments = ray_serve.status().applications[application].deployments
    failed = {name: each.message for name, each in deployments.items() if each.status.name.endswith("FAILED")}
    return next((f"{name}: {last_words(message)}" for name, message in failed.items() if message), None)


def last_words(message: str) -> str:
    """What was raised last in Serve's message of a replica that did not start: of our own exceptions what they say."""
    lines = [line for line in message.splitlines() if line.strip() and not line[0].isspace()]
    raised = lines[-1] if lines else message
    return re.sub(r"^(?:pipelines|gateway|deployments)(?:\.\w+)+: ", "", raised)


def _with_gpus(options: Mapping[str, Any], gpus: float) -> Mapping[str, Any]:
    """The options of the deployments, with at most as many Diffusers as the machine's GPUs hold.

    Raises ValueError where they hold none.
    """
    from deployments.placement import gpus_of

    diffuser = options["Diffuser"]
    if (booked := gpus_of(diffuser)) == 0:
        return options
    most = int(gpus / booked)
    if most == 0:
        raise ValueError("Ray finds no GPU on this machine; without DEVICE=cuda the CPU draws, slowly")
    if (scaling := diffuser.get("autoscaling_config")) is None:
        return options
    ends = {
        name: min(scaling[name], most)
        for name in ("min_replicas", "initial_replicas", "max_replicas")
        if scaling.get(name)
    }
    return {**options, "Diffuser": {**diffuser, "autoscaling_config": {**scaling, **ends}}}


def _check_secrets(settings: Any) -> None:
    """Raises ValueError where there is nothing at a reference, which the replicas would be slower to say."""
    settings.secret()
    settings.seeds()


async def _open_ledger(settings: Any) -> None:
    from gateway.errors import StoreUnavailable
    from gateway.ledger.opening import open_ledger, reason_of
    from gateway.ledger_address import parse, shown
    from gateway.settings import GatewaySettings

    try:
        await (await open_ledger(GatewaySettings.of(settings))).close()
    except StoreUnavailable as error:
        field = "ledger_url" if settings.ledger_url else "data_dir"
        where = shown(parse(settings.ledger_address))
        raise RuntimeError(
            f"the ledger {where} cannot be opened ({reason_of(error)}): start its database, or correct gateway.{field}"
        ) from error


def _drain(application: str, grace_s: float) -> None:
    from deployments.drain import drain

    ignore_signals()
    print("Stopping ...", flush=True)
    with suppress(Exception):  # where it does not answer, its lease brings back what it holds
        drain(application, grace_s + DRAIN_S)


def _with_certificate(options: dict[str, Any], settings: Any) -> Path | None:
    """Add a certificate to Serve's options; the file of the authority that signed it. None where there is one."""
    if options["ssl_certfile"]:
        return None
    from deployments.certificate import certificate
    from gateway.http.hosts import HOSTS

    public = urlsplit(settings.public_url or "").hostname
    # under fal's names, too, for clients that reach it by name resolution
    names = {"localhost", "127.0.0.1", "::1", *HOSTS, *settings.allowed_hosts, *filter(None, [public])}
    names.add(socket.gethostname() if options["host"] in _ANYWHERE else options["host"])
    made = certificate((settings.data_dir / "tls").absolute(), names)
    options["ssl_certfile"] = options["ssl_keyfile"] = str(made.server)
    return made.authority


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_port(host: str, port: int) -> None:
    if not 0 < port <= LAST_PORT:  # the config file's, which Serve takes as it is
        raise ValueError(f"http_options.port is {port}, and ports are 1 to {LAST_PORT}: {PORT_EXAMPLE}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise OSError(
                    f"{host} is no address of this machine ({error.strerror}); choose one that is: make serve "
                    "HOST=0.0.0.0 listens on all"
                ) from error
            other = port + 1 if 1023 < port < LAST_PORT else 9000
            raise OSError(
                f"port {port} on {host} is not free ({error.strerror}); choose another: make serve PORT={other}"
            ) from error


def _with_threads(settings: Any) -> Any:
    # Ray tells numeric libraries how many threads to use from the CPUs booked, which are fewer than there are.
    if settings.drawing.threads is not None:
        return settings
    return settings.model_copy(update={"drawing": settings.drawing.model_copy(update={"threads": cores()})})


def _wait_until_ready(address: str) -> None:
    # straight to our own process: by no proxy of the environment, and whatever names its certificate has
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    here = urlsplit(address)
    host = here.hostname or ""
    if host in _ANYWHERE:
        address = f"{here.scheme}://{_ANYWHERE[host]}:{here.port}"
    end = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            with opener.open(f"{address}/ready", timeout=10):
                return
        except URLError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"{address}/ready does not answer: {error}") from error
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())

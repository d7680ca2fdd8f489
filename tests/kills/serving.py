"""`make serve` with an engine that draws nothing, or the real one: `python -m tests.kills.serving fake|pocket ...`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments import serve_local
from deployments.starting import Starting

HOLD = "FOOOCUS_TEST_HOLD"  # names a file


def main() -> int:
    if sys.argv.pop(1) == "fake":
        original = serve_local.own_ray

        @contextmanager
        def with_a_fake_engine(starting: Starting) -> Iterator[None]:
            with original(starting):
                from deployments import app  # not before Ray has its token

                app.drawer_of, app.expander_of = drawer_of, expander_of
                yield

        serve_local.own_ray = with_a_fake_engine
    return serve_local.main()


def drawer_of(_: object) -> object:
    from tests.kills.holding import HoldingDrawer

    return HoldingDrawer(Path(os.environ[HOLD]))


def expander_of(*_: object) -> None:
    """Nothing is added to prompts, and torch has one process less to start in."""


if __name__ == "__main__":
    # workers unpickle what they are given by its module's name, which is not __main__
    from tests.kills.serving import main as named

    sys.exit(named())

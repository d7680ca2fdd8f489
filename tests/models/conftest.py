"""A hub on loopback for the tests of the model tool, and the environment in which nothing else is reached."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.__main__ import main
from models.catalogue import find
from tests.models.hub import Hub, environment_of, serving
from tests.models.miniatures import repositories

Tool = Callable[..., tuple[int, str, str]]
"""Runs a command of the tool: its exit code, what it printed, and what it printed on stderr."""


@pytest.fixture(scope="session")
def published(pocket_family_folder: Path) -> dict[str, dict[str, bytes]]:
    """What the hub has. Never change it in place."""
    return repositories(pocket_family_folder)


@pytest.fixture
def hub(published: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    with serving({repository: dict(files) for repository, files in published.items()}) as hub:
        yield hub


@pytest.fixture
def environment(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the tests' own process, too."""
    given = environment_of(hub, tmp_path)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", given["HF_TOKEN_PATH"])  # it was read at the import
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    return given


@pytest.fixture
def families(environment: dict[str, str]) -> Path:
    return Path(environment["FOOOCUS_FAMILIES"])


@pytest.fixture
def tool(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Tool:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def place(hub: Hub, name: str) -> tuple[dict[str, bytes], str]:
    """Where the hub has an entry: the files of its repository, and its path among them."""
    entry = find(name)
    assert entry.repository is not None
    assert entry.path is not None
    return hub.files[entry.repository], entry.path

"""What is imported in these tests, and how."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.importing import add_import
from models.pocket import names
from pipelines.weights.checkpoint import Components, load_checkpoint
from tests.models.importing.layouts import CPU, Tensors


@pytest.fixture(scope="module")
def pocket(pocket_family_folder: Path) -> Tensors:
    return load_file(pocket_family_folder / names.CHECKPOINT)


@pytest.fixture(scope="module")
def components(pocket_family_folder: Path) -> Components:
    checkpoint, config = pocket_family_folder / names.CHECKPOINT, pocket_family_folder / "config"
    return load_checkpoint(checkpoint, config, CPU, torch.float16)


@pytest.fixture(autouse=True)
def families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOOOCUS_FAMILIES", str(tmp_path / "families"))
    return tmp_path / "families"


@pytest.fixture
def run(pocket_family_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `import` on what is of the pocket model's size; answers what was said."""

    def run(source: Path, *options: object, config: bool = True) -> str:
        parser = argparse.ArgumentParser()
        add_import(parser.add_subparsers())
        given = ["--config", pocket_family_folder / "config"] if config else []
        args = parser.parse_args(["import", str(source), *map(str, [*given, *options])])
        assert args.run(args) == 0
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        return said

    return run

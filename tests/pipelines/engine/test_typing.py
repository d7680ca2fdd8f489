"""What types promise: an answer has the type that its ask says, and the engine takes nothing on trust but once."""

import ast
import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "pipelines" / "engine").glob("*.py"))

SNIPPET = """
from collections.abc import Sequence

from pipelines.conditioning import Conditioning
from pipelines.engine.tasks import Advance, Answers, Fork, Routine, Stage, ask
from pipelines.stages.text import EncodeText


def encode(asked: EncodeText) -> Routine[Conditioning]:
    conditioning: Conditioning = yield from ask(asked)
    return conditioning


def encode_all(several: Sequence[EncodeText]) -> Routine[list[Conditioning]]:
    yield from ask(Advance(1))
    return (yield from ask(Fork([encode(asked) for asked in several])))


def another_type(asked: EncodeText) -> Routine[None]:
    conditioning: int = yield from ask(asked)  # wrong


def another_result(asked: EncodeText) -> Routine[int]:
    return (yield from ask(asked))  # wrong


def another_fork(several: Sequence[EncodeText]) -> Routine[list[int]]:
    return (yield from ask(Fork([encode(asked) for asked in several])))  # wrong


def an_answer_of_nothing() -> Routine[int]:
    return (yield from ask(Advance(1)))  # wrong


def past_the_cast(asked: EncodeText) -> Routine[Conditioning]:
    conditioning: Conditioning = yield asked  # wrong
    return conditioning


def no_ask() -> Routine[int]:
    yield 1  # wrong
    return 1


class Careless(Stage[EncodeText, Conditioning]):
    name = "careless"
    asked = EncodeText

    def run(self, asks: Sequence[EncodeText]) -> Answers[Conditioning]:
        return Answers([1 for _ in asks])  # wrong
"""

# Reading torch and what stands on it is what takes mypy minutes. None of it is in question here.
SETTINGS = """
[mypy]
strict = true
follow_imports = silent
[mypy-torch.*,diffusers.*,transformers.*,safetensors.*,numpy.*]
follow_imports = skip
"""


def test_an_answer_of_another_type_than_the_asks_is_an_error_of_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes some seconds, for mypy reads what the snippet imports; what it found is kept in `.cache`."""
    snippet, settings = tmp_path / "snippet.py", tmp_path / "mypy.ini"
    snippet.write_text(SNIPPET)
    settings.write_text(SETTINGS)
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    given = ["--config-file", str(settings), "--cache-dir", str(ROOT / ".cache" / "mypy"), str(snippet)]
    told, faults, _ = api.run(["--no-error-summary", "--hide-error-context", "--no-pretty", *given])
    assert faults == ""
    wrong = [number for number, line in enumerate(SNIPPET.splitlines(), start=1) if line.endswith("# wrong")]
    found = {int(line.split(":")[1]) for line in told.splitlines() if ": error:" in line}
    assert found == {*wrong}, told


def names(source: Path) -> set[str]:
    """Every name that the code of a file uses or imports, in quoted types too."""
    code = ast.parse(source.read_text())
    docstrings = {id(node.value) for node in ast.walk(code) if isinstance(node, ast.Expr)}
    found: set[str] = set()
    for node in ast.walk(code):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                found |= {*re.findall(r"\w+", text)}
    return found


def test_the_sources_are_found() -> None:
    assert {"engine.py", "executor.py", "scheduler.py", "tasks.py"} <= {source.name for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_engine_has_no_type_that_says_nothing(source: Path) -> None:
    assert not {"Any", "object", "no_type_check"} & names(source)
    assert "type: ignore" not in source.read_text()


def test_the_engine_casts_once() -> None:
    calls = [
        (source.name, node.lineno)
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and "cast" in (getattr(node.func, "id", ""), getattr(node.func, "attr", ""))
    ]
    assert [name for name, _ in calls] == ["tasks.py"]

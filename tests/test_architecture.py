"""The rules of the house: who may import what, one purpose a file, and no module state."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("gateway", "pipelines", "deployments", "models")
PACKAGES = (*SHIPPED, "benchmarks", "training")
MAX_LINES = 400
LONGER = {"tests/reference.py": 500}  # outsiders reach the product through this one name
MUTABLE_CALLS = frozenset(
    {"list", "dict", "set", "bytearray", "defaultdict", "OrderedDict", "Counter", "deque", "WeakValueDictionary"}
)
MUTABLE_LITERALS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
READ_ONLY_TYPES = frozenset({"Mapping", "Sequence", "Collection", "Set", "AbstractSet", "Iterable"})
CACHES = frozenset({"cache", "lru_cache"})

# package -> modules it may not import, with what they contain; the longest matching exception wins
FORBIDDEN = {
    "gateway": (
        *("torch", "ray", "diffusers", "transformers", "accelerate"),
        *("pipelines", "deployments", "models", "benchmarks", "training"),
    ),
    "pipelines": ("ray", "gateway", "deployments", "models", "benchmarks", "training"),
    "deployments": ("torch", "benchmarks", "training"),
    "models": ("ray", "gateway", "deployments", "benchmarks", "training"),
    "benchmarks": ("training",),
    "training": ("ray", "gateway", "deployments"),
}
EXCEPTIONS = {
    "gateway": (
        "pipelines.spec",
        "pipelines.performance",
        "pipelines.progress",
        "pipelines.row_steps",
        "pipelines.images.pixels",
        "pipelines.weights.at_hand",
    )
}
NOWHERE = ("torchvision",)

Rule = Callable[[str, ast.Module, str], Iterator[str]]


def imported(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Every module that the source names in an import, at whatever depth, absolute: (line, module)."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def within(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def imports_stay_in_their_package(source: str, tree: ast.Module, path: str) -> Iterator[str]:
    package = path.split("/")[0]
    banned = FORBIDDEN.get(package, ()) + NOWHERE
    for line, module in imported(tree, path):
        if within(module, banned) and not within(module, EXCEPTIONS.get(package, ())):
            yield f"{path}:{line}: {package} imports {module}"


def says_its_purpose_in_the_first_line(source: str, tree: ast.Module, path: str) -> Iterator[str]:
    first = source.splitlines()[0] if source else ""
    if path.split("/")[0] in PACKAGES and not (
        ast.get_docstring(tree) and first.startswith('"""') and first[3:].strip()
    ):
        yield f"{path}:1: the first line is no docstring"


def is_short(source: str, tree: ast.Module, path: str) -> Iterator[str]:
    lines, most = len(source.splitlines()), LONGER.get(path, MAX_LINES)
    if lines > most:
        yield f"{path}: {lines} lines, at most {most}"


def has_no_module_state(source: str, tree: ast.Module, path: str) -> Iterator[str]:
    """Flags mutable containers bound at module level, cached functions and `global`.

    A literal is a constant when its name is in capitals and its annotation is a read-only type: mypy keeps it so.
    """
    if path.split("/")[0] not in PACKAGES:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"{path}:{node.lineno}: global {', '.join(node.names)}"
    for statement in _module_level(tree.body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in statement.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if _last_name(called) in CACHES:
                    yield f"{path}:{statement.lineno}: {statement.name} keeps a cache in the module"
            continue
        if isinstance(statement, ast.Assign):
            names, annotation = [_last_name(target) for target in statement.targets], None
        elif isinstance(statement, ast.AnnAssign):
            names, annotation = [_last_name(statement.target)], statement.annotation
        else:
            continue
        constant = all(name.isupper() for name in names) and _is_read_only(annotation)
        if names != ["__all__"] and not constant and _is_mutable(statement.value):
            yield f"{path}:{statement.lineno}: {', '.join(names)} is mutable module state"


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        for block in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
                yield from _module_level(getattr(statement, block, []))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_mutable(value: ast.expr | None) -> bool:
    return isinstance(value, MUTABLE_LITERALS) or (
        isinstance(value, ast.Call) and _last_name(value.func) in MUTABLE_CALLS
    )


def _is_read_only(annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Subscript):
        return _last_name(annotation.value) in READ_ONLY_TYPES or (
            _last_name(annotation.value) == "Final" and _is_read_only(annotation.slice)
        )
    return False


RULES: tuple[Rule, ...] = (
    imports_stay_in_their_package,
    says_its_purpose_in_the_first_line,
    is_short,
    has_no_module_state,
)


def python_files() -> list[str]:
    found = [path for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if "node_modules" not in path.parts)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    files = python_files()
    assert len(files) > 20
    broken: list[str] = []
    for path in files:
        source = (ROOT / path).read_text(encoding="utf-8")
        broken += rule(source, ast.parse(source), path)
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (imports_stay_in_their_package, "gateway/app.py", "import torch"),
        (imports_stay_in_their_package, "gateway/app.py", "from torch.nn import functional"),
        (imports_stay_in_their_package, "gateway/app.py", "def f():\n    from ray import serve"),
        (imports_stay_in_their_package, "gateway/app.py", "import importlib\nimportlib.import_module('ray.serve')"),
        (imports_stay_in_their_package, "gateway/app.py", "from pipelines import events"),
        (imports_stay_in_their_package, "gateway/app.py", "from pipelines.specification import Spec"),
        (imports_stay_in_their_package, "gateway/app.py", "from pipelines import *"),
        (imports_stay_in_their_package, "gateway/http/queue.py", "from ...pipelines.events import Progress"),
        (imports_stay_in_their_package, "gateway/app.py", "import deployments.graph"),
        (imports_stay_in_their_package, "pipelines/safety.py", "import gateway.errors"),
        (imports_stay_in_their_package, "pipelines/safety.py", "from deployments import graph"),
        (imports_stay_in_their_package, "pipelines/safety.py", "import ray"),
        (imports_stay_in_their_package, "deployments/diffuser.py", "import torch"),
        (imports_stay_in_their_package, "pipelines/safety.py", "from models.pocket import names"),
        (imports_stay_in_their_package, "deployments/graph.py", "from benchmarks.pocket.world import scenes"),
        (imports_stay_in_their_package, "models/pocket/write.py", "import ray"),
        (imports_stay_in_their_package, "models/pocket/write.py", "from training.pocket import train"),
        (imports_stay_in_their_package, "models/pocket/write.py", "from benchmarks.pocket.world import scenes"),
        (imports_stay_in_their_package, "benchmarks/pocket/evaluate.py", "from training.pocket import train"),
        (imports_stay_in_their_package, "training/pocket/train.py", "import deployments.graph"),
        (imports_stay_in_their_package, "tests/test_x.py", "import torchvision.transforms"),
        (imports_stay_in_their_package, "pipelines/safety.py", "if True:\n    import torchvision"),
        (says_its_purpose_in_the_first_line, "gateway/app.py", "import json\n"),
        (says_its_purpose_in_the_first_line, "gateway/app.py", ""),
        (says_its_purpose_in_the_first_line, "gateway/app.py", '# a comment\n"""Purpose."""\n'),
        (says_its_purpose_in_the_first_line, "gateway/app.py", '"""\nPurpose.\n"""\n'),
        (is_short, "gateway/app.py", "x = 1\n" * (MAX_LINES + 1)),
        (has_no_module_state, "gateway/app.py", "seen = []"),
        (has_no_module_state, "gateway/app.py", "SEEN = {}"),
        (has_no_module_state, "gateway/app.py", "SEEN: dict[str, int] = {}"),
        (has_no_module_state, "gateway/app.py", "seen: Mapping[str, int] = {}"),
        (has_no_module_state, "gateway/app.py", "SEEN = collections.defaultdict(list)"),
        (has_no_module_state, "gateway/app.py", "try:\n    SEEN = set()\nexcept ValueError:\n    pass"),
        (has_no_module_state, "gateway/app.py", "SEEN = [x for x in y]"),
        (has_no_module_state, "gateway/app.py", "@functools.lru_cache(maxsize=None)\ndef f(): ..."),
        (has_no_module_state, "gateway/app.py", "@cache\ndef f(): ..."),
        (has_no_module_state, "gateway/app.py", "x = 1\ndef f():\n    global x"),
    ],
)
def test_a_rule_can_fail(rule: Rule, path: str, source: str) -> None:
    assert list(rule(source, ast.parse(source), path))


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (imports_stay_in_their_package, "gateway/app.py", "from pipelines.spec import Spec"),
        (imports_stay_in_their_package, "gateway/app.py", "from pipelines import spec"),
        (imports_stay_in_their_package, "gateway/app.py", "import rayon"),
        (imports_stay_in_their_package, "gateway/http/queue.py", "from ..ledger import base"),
        (imports_stay_in_their_package, "pipelines/safety.py", "import torch"),
        (imports_stay_in_their_package, "deployments/graph.py", "import ray\nfrom pipelines import events"),
        (
            imports_stay_in_their_package,
            "training/pocket/train.py",
            "from benchmarks.pocket import evaluate",
        ),
        (has_no_module_state, "gateway/app.py", "NAMES: Final[Mapping[str, int]] = {'a': 1}"),
        (has_no_module_state, "gateway/app.py", "NAMES: Mapping[str, int] = {'a': 1}"),
        (has_no_module_state, "gateway/app.py", "NAMES = frozenset({'a'})\n__all__ = ['NAMES']"),
        (has_no_module_state, "gateway/app.py", "def f():\n    seen = []"),
    ],
)
def test_a_rule_lets_good_code_pass(rule: Rule, path: str, source: str) -> None:
    assert not list(rule(source, ast.parse(source), path))


def test_the_gateway_loads_neither_torch_nor_ray() -> None:
    """What imports cannot show: that nothing which the gateway imports brings them along."""
    modules = [path for path in python_files() if path.startswith("gateway/") and "/migrations/" not in path]
    names = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in modules]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'ray', 'diffusers', 'transformers'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_torchvision_is_no_dependency() -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        assert "torchvision" not in (ROOT / name).read_text(encoding="utf-8")


def test_what_ships_holds_neither_training_nor_benchmarks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    chosen: list[str] = project["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = [path.name for path in ROOT.iterdir() if any(path.glob("*.py"))]
    assert {"training", "benchmarks"} < set(folders)
    assert {name for name in folders if any(fnmatch(name, pattern) for pattern in chosen)} == set(SHIPPED)


def test_no_two_rooms_of_the_gateway_import_each_other() -> None:
    """Commands and migrations, which see everything, are no part of a room."""
    found: set[tuple[str, str]] = set()
    for path in python_files():
        parts = path.removesuffix(".py").split("/")
        if parts[0] != "gateway" or parts[-1] in ("__main__", "env"):
            continue
        for _, module in imported(ast.parse((ROOT / path).read_text(encoding="utf-8")), path):
            names = module.split(".")
            if names[0] == "gateway" and len(names) > 1 and names[1] != parts[1]:
                found.add((parts[1], names[1]))
    assert found
    assert not {pair for pair in found if pair[::-1] in found}

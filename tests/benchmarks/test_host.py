"""The cost of the host: the counter tells kernels from waits, and a turn of the engine costs the same twice."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import host
from benchmarks.counting import HOST, KERNEL, LATER, READ, STAGED, UPLOAD, Counts, Waited
from benchmarks.host import CASES, LARGEST, count, main, microseconds
from benchmarks.turns import CPU, Case

Act = Callable[[torch.Tensor], object]

# of a tensor on the device, what each asks for
KNOWN: dict[str, tuple[Act, dict[str, int]]] = {
    "a value": (lambda x: x.add(1).sum().item(), {KERNEL: 2, READ: 1}),
    "a list": (lambda x: (2 * x).tolist(), {KERNEL: 1, READ: 1}),
    "a decision": (lambda x: bool((x > 1).any()), {KERNEL: 2, READ: 1}),
    "a copy back": (lambda x: x.cpu(), {READ: 1}),
    "a copy back that does not wait": (lambda x: x.to("cpu", non_blocking=True), {LATER: 1}),
    "a list to the device": (lambda x: torch.tensor([1.0, 2.0], device=x.device), {UPLOAD: 1}),
    "a like list": (lambda x: x.new_tensor([1.0]), {UPLOAD: 1}),
    "a copy there": (lambda x: torch.ones(2).to(x.device), {HOST: 1, UPLOAD: 1}),
    "a copy there in place": (lambda x: x.copy_(torch.ones(2, 3)), {HOST: 1, UPLOAD: 1}),
    "a staged copy": (lambda x: x.copy_(torch.ones(2, 3), non_blocking=True), {HOST: 1, STAGED: 1}),
    "views": (lambda x: x[:1].T.reshape(-1).chunk(3), {}),
    "memory": (torch.empty_like, {}),
    "another dtype": (lambda x: x.bfloat16(), {KERNEL: 1}),
    "the host alone": (lambda x: float(torch.ones(2).sum()), {HOST: 3}),
    "nothing": (lambda x: x.float().to(x.device), {}),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("inference", [True, False])
def test_the_counter_knows_what_is_asked(name: str, inference: bool) -> None:
    act, wanted = KNOWN[name]
    counts, x = Counts(Path(__file__).parent), torch.zeros(2, 3, device="meta")
    with torch.inference_mode(inference), counts.counting():
        act(x)
        with counts.paused():
            act(x)
    found = counts.take()
    assert {place for _, place in found} <= {
        "test_host.py <lambda>",
        "test_host.py test_the_counter_knows_what_is_asked",
    }
    kinds: Counter[str] = Counter()
    for (kind, _), n in found.items():
        kinds[kind] += n
    assert kinds == wanted
    assert not counts.take()


def test_a_wait_that_is_forbidden_raises_and_is_told() -> None:
    counts, x = Counts(Path(__file__).parent), torch.zeros(2, 3, device="meta")
    counts.forbidding = True
    with counts.counting():
        x.to("cpu", non_blocking=True)
        with pytest.raises(Waited):
            x.sum().item()
    assert counts.waited == "blocking read: test_host.py test_a_wait_that_is_forbidden_raises_and_is_told"


@pytest.mark.parametrize("case", [Case(2, True), Case(1, False)], ids=str)
def test_a_turn_asks_for_the_same_twice(case: Case) -> None:
    first, again = count(case), count(case)
    assert first == again
    assert first["kinds"][KERNEL] == sum(first["kernels by file"].values()) > 0
    assert first["CPU path"] > 0
    spent = microseconds(case, 8, CPU)
    assert spent is not None
    assert spent > 0


def test_more_images_cost_a_turn_more_kernels() -> None:
    one, two = (count(Case(images, True))["kinds"][KERNEL] for images in (1, 2))
    assert one < two < 2 * one


def test_two_checkouts_stand_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {name: CASES[name] for name in (str(Case(1, False)), LARGEST)}
    monkeypatch.setattr(host, "CASES", few)
    monkeypatch.setattr(host, "TURNS", 5)
    # what a child would print, without the seconds of its start
    measured: list[tuple[Path, str]] = []

    def measure(tree: Path, what: str, latents: list[int]) -> object:
        measured.append((tree, what))
        main(["--measure", what, "--latents", *map(str, latents)])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(host, "measure", measure)
    assert main(["--beside", str(tmp_path), "--rounds", "2", "--latents", "8", "--out", str(tmp_path)]) == 0
    times = [tree for tree, what in measured if what == "times"]
    assert times == [host.ROOT, tmp_path, tmp_path, host.ROOT]
    written = json.loads((tmp_path / "host.json").read_bytes())["tables"]
    assert [row["after / before"] for row in written["Kernels"]] == [1, 1]
    assert all(row["before"] > 0 and row["after"] > 0 for row in written["Microseconds, CPU path, latents of 8 x 8"])

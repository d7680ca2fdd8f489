"""What a store of variants keeps, finds and lets go."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from pipelines.errors import FileGone
from pipelines.weights import bases, variants
from pipelines.weights.at_hand import Weights
from pipelines.weights.lora.reading import LoraFile, digest, read_lora
from pipelines.weights.variants import VariantStore
from tests.pipelines.weights import tiny
from tests.pipelines.weights.loras import PLENTY, of, unet_lora
from tests.pipelines.weights.test_control_lora import write_control


def test_what_is_kept_is_named_for_people_the_last_used_at_the_end(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    store.get(of((path, 0.5)))
    store.get(of())
    assert store.names() == (f"tiny.safetensors + {digest(path)[:8]} x 0.5", "tiny.safetensors")
    store.get(of((path, 0.5)))
    assert store.names()[-1].endswith("x 0.5")


@pytest.mark.parametrize("branch_bytes", [None, 10**9])
def test_what_was_drawn_with_is_held_until_something_of_it_has_gone(tmp_path: Path, branch_bytes: int | None) -> None:
    store = VariantStore(tiny.family(), 12_000, branch_bytes=branch_bytes)
    path = unet_lora(tmp_path / "a.safetensors")
    store.note_drawn(Weights(), store.get(of()))
    store.note_drawn(Weights("", "a"), store.get(of((path, 0.5))))
    assert store.holds() == (Weights(), Weights("", "a"))
    for at in range(30):
        store.get(of((unet_lora(tmp_path / f"{at}.safetensors", seed=at), 1.0)))
    gc.collect()
    assert Weights("", "a") not in store.holds()


def test_thirty_sets_stay_within_the_budget_and_those_in_use_stay_whole(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), budget_bytes=12_000)
    path = unet_lora(tmp_path / "a.safetensors")
    held = store.get(of((path, 1.0)))
    before = tiny.predict(held.unet)
    alive: list[weakref.ref[object]] = []
    for at in range(30):
        alive.append(weakref.ref(store.get(of((path, 0.01 * (at + 2)))).base))
        assert store.resident_bytes <= 12_000
    gc.collect()
    assert 1 < sum(ref() is not None for ref in alive) < 10
    assert torch.equal(tiny.predict(held.unet), before)


def test_a_variant_that_is_still_held_is_found_again_after_eviction(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), budget_bytes=3_000)
    path = unet_lora(tmp_path / "a.safetensors")
    held = store.get(of((path, 1.0)))
    for at in range(5):
        store.get(of((path, 0.01 * (at + 2))))
    assert store.get(of((path, 1.0))) == held


def test_the_newest_stays_even_when_the_budget_is_smaller(tmp_path: Path) -> None:
    store = VariantStore(tiny.family(), budget_bytes=0)
    path = unet_lora(tmp_path / "a.safetensors")
    first = weakref.ref(store.get(of((path, 1.0))).base)
    gc.collect()
    assert first() is not None
    store.get(of())
    gc.collect()
    assert first() is None
    assert store.resident_bytes == 0


def test_control_networks_count_and_go_with_their_variant(tmp_path: Path) -> None:
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", tiny.unet())})
    roomy = VariantStore(family, PLENTY)
    roomy.get(of(control=True))
    size = roomy.resident_bytes
    assert size > 10_000
    store = VariantStore(family, budget_bytes=2 * size)
    path = unet_lora(tmp_path / "a.safetensors")
    networks = []
    for at in range(8):
        networks.append(weakref.ref(store.get(of((path, 0.1 * at), control=True)).controls["canny"]))
        assert store.resident_bytes <= 2 * size
    gc.collect()
    assert 1 <= sum(ref() is not None for ref in networks) <= 2


def test_the_files_of_used_variants_are_parsed_once_even_when_the_budget_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[Path] = []

    def counted(path: Path) -> LoraFile:
        parsed.append(path)
        return read_lora(path)

    monkeypatch.setattr(variants, "read_lora", counted)
    store = VariantStore(tiny.family(), budget_bytes=12_000)
    a, b = unet_lora(tmp_path / "a.safetensors", 1), unet_lora(tmp_path / "b.safetensors", 20)
    for at in range(30):
        store.get(of((a, 0.01 * (at + 1)), (b, 1.0)))
    assert sorted(parsed) == [a, b]


def test_find_answers_what_is_there_and_builds_nothing(tmp_path: Path) -> None:
    family = tiny.family({"canny": write_control(tmp_path / "canny.safetensors", tiny.unet())})
    store = VariantStore(family, PLENTY)
    lora = unet_lora(tmp_path / "a.safetensors"), 1.0
    assert store.find(of(lora)) is None
    built = store.get(of(lora))
    assert store.find(of(lora)) == built
    assert store.find(of(lora, control=True)) is None
    assert store.find(of((lora[0], 0.5))) is None
    store.get(of(lora, control=True))
    assert store.find(of(lora, control=True)) == built


def test_what_is_there_is_found_while_another_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    a, b = unet_lora(tmp_path / "a.safetensors", 1), unet_lora(tmp_path / "b.safetensors", 20)
    there = store.get(of((a, 1.0)))
    begun, go_on = threading.Event(), threading.Event()

    def slow(path: Path) -> LoraFile:
        begun.set()
        assert go_on.wait(20)
        return read_lora(path)

    monkeypatch.setattr(variants, "read_lora", slow)
    with ThreadPoolExecutor(2) as pool:
        twice = [pool.submit(store.get, of((b, 1.0))) for _ in range(2)]
        assert begun.wait(20)
        assert store.get(of((a, 1.0))) == there
        assert store.find(of((b, 1.0))) is None
        go_on.set()
        assert twice[0].result(20) == twice[1].result(20)


def test_switching_between_variants_that_are_there_merges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VariantStore(tiny.family(), PLENTY)
    path = unet_lora(tmp_path / "a.safetensors")
    one, other = (store.get(of((path, scale))) for scale in (0.5, 0.6))

    def never(*_: object) -> None:
        raise AssertionError("built again")

    for module, name in (
        (bases, "merged"),
        (bases, "clone_sharing_parameters"),
        (variants, "read_lora"),
        (variants, "digest"),
    ):
        monkeypatch.setattr(module, name, never)
    for _ in range(5):
        assert store.get(of((path, 0.5))) == one
        assert store.get(of((path, 0.6))) == other


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("reading", ["_state", "digest", "read_lora"])
def test_a_file_that_goes_at_any_moment_is_told_as_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: str, known: bool
) -> None:
    store = VariantStore(tiny.family(), budget_bytes=0)  # so that files are read again
    path = unet_lora(tmp_path / "a.safetensors")
    if known:
        store.get(of((path, 1.0)))
    content, read = path.read_bytes(), getattr(variants, reading)

    def going(path: Path) -> object:
        path.unlink()
        return read(path)

    monkeypatch.setattr(variants, reading, going)
    path.write_bytes(content)  # another state of the file
    with pytest.raises(FileGone):
        store.get(of((path, 0.5)))
    monkeypatch.setattr(variants, reading, read)
    path.write_bytes(content)
    assert store.get(of((path, 0.5)))

"""The cache: what falls out, what is found again, and what is counted."""

from pipelines.weights.sized_lru import SizedLru


class Thing(str):
    """A value that can be held weakly."""


def test_what_was_used_last_stays() -> None:
    cache: SizedLru[str, str] = SizedLru(budget_bytes=20)
    for at, name in enumerate("ab"):
        cache.put(name, Thing(name.upper()), {at: 10})
    assert cache.find("a") == "A"
    cache.put("c", Thing("C"), {2: 10})
    assert [cache.find(name) for name in "abc"] == ["A", None, "C"]
    assert cache.resident_bytes == 20


def test_what_is_shared_counts_once_until_its_last_owner_goes() -> None:
    cache: SizedLru[str, str] = SizedLru(budget_bytes=100)
    cache.put("a", Thing("A"), {1: 40, 2: 10})
    cache.put("b", Thing("B"), {1: 40, 3: 10})
    assert cache.resident_bytes == 60
    cache.put("c", Thing("C"), {4: 50})
    assert cache.find("a") is None
    assert cache.resident_bytes == 100
    cache.put("d", Thing("D"), {5: 10})
    assert cache.find("b") is None
    assert cache.resident_bytes == 60


def test_a_thing_that_has_grown_is_counted_anew() -> None:
    cache: SizedLru[str, str] = SizedLru(budget_bytes=100)
    cache.put("a", Thing("A"), {1: 10})
    cache.put("a", Thing("A"), {1: 10, 2: 5})
    assert cache.resident_bytes == 15


def test_the_last_thing_stays_though_larger_than_the_budget() -> None:
    cache: SizedLru[str, str] = SizedLru(budget_bytes=0)
    cache.put("a", Thing("A"), {1: 10})
    assert cache.find("a") == "A"
    cache.put("b", Thing("B"), {2: 10})
    assert cache.find("a") is None
    assert cache.resident_bytes == 10


def test_what_fell_out_is_recalled_and_counted_while_somebody_holds_it() -> None:
    cache: SizedLru[str, str] = SizedLru(budget_bytes=10)
    held = Thing("A")
    cache.put("a", Thing("former"), {0: 1})
    cache.put("a", held, {1: 7})
    cache.put("b", Thing("B"), {2: 8})
    assert cache.find("a") is None
    assert cache.recall("b") == "B"
    assert cache.resident_bytes == 8
    assert cache.recall("a") is held
    assert cache.find("a") is held
    assert cache.resident_bytes == 7
    cache.put("b", Thing("B"), {2: 8})
    del held
    assert cache.recall("a") is None
    assert cache.resident_bytes == 8

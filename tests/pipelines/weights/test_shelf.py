"""The shelf: what falls off, and what is counted."""

from pipelines.weights.shelf import Shelf


def test_what_was_used_last_stays() -> None:
    shelf: Shelf[str, str] = Shelf(budget_bytes=20)
    for at, name in enumerate("ab"):
        shelf.put(name, name.upper(), {at: 10})
    assert shelf.find("a") == "A"
    shelf.put("c", "C", {2: 10})
    assert [shelf.find(name) for name in "abc"] == ["A", None, "C"]
    assert shelf.resident_bytes == 20


def test_what_is_shared_counts_once_until_its_last_owner_goes() -> None:
    shelf: Shelf[str, str] = Shelf(budget_bytes=100)
    shelf.put("a", "A", {1: 40, 2: 10})
    shelf.put("b", "B", {1: 40, 3: 10})
    assert shelf.resident_bytes == 60
    shelf.put("c", "C", {4: 50})
    assert shelf.find("a") is None
    assert shelf.resident_bytes == 100
    shelf.put("d", "D", {5: 10})
    assert shelf.find("b") is None
    assert shelf.resident_bytes == 60


def test_a_thing_that_has_grown_is_counted_anew() -> None:
    shelf: Shelf[str, str] = Shelf(budget_bytes=100)
    shelf.put("a", "A", {1: 10})
    shelf.put("a", "A", {1: 10, 2: 5})
    assert shelf.resident_bytes == 15


def test_the_last_thing_stays_though_larger_than_the_budget() -> None:
    shelf: Shelf[str, str] = Shelf(budget_bytes=0)
    shelf.put("a", "A", {1: 10})
    assert shelf.find("a") == "A"
    shelf.put("b", "B", {2: 10})
    assert shelf.find("a") is None
    assert shelf.resident_bytes == 10

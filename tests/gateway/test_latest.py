"""What a slow listener still hears."""

from gateway.latest import Latest
from gateway.work import Note, Step


def said(*all_of_it: object) -> Latest[object]:
    latest: Latest[object] = Latest((Step, str), every=Note)
    for one in all_of_it:
        latest.put(one)
    return latest


def test_of_what_passes_the_newest_is_heard_in_the_order_of_its_kinds_and_the_end_last() -> None:
    assert said("old", Step(1, 3), 1.0, "new", Step(2, 3), 2.0).take() == [Step(2, 3), "new", 2.0]


def test_what_is_never_skipped_is_heard_first_and_whole() -> None:
    assert said(Step(1, 3), Note("one"), Note("two")).take() == [Note("one"), Note("two"), Step(1, 3)]


def test_what_was_heard_is_no_news_again() -> None:
    latest = said(Step(1, 3), Note("one"), 1.0)
    assert latest.filled.is_set()
    latest.take()
    assert not latest.filled.is_set()
    assert latest.take() == []

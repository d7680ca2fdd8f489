"""What a replica has at hand, by the names of those who ask for it."""

from pipelines.weights.at_hand import REMEMBERED, AtHand, Weights

FILM, INK = Weights("", "film"), Weights("", "ink")


def test_weights_are_at_hand_while_all_that_they_take_is_kept() -> None:
    at_hand = AtHand()
    at_hand.note(FILM, ["base", "film's branch"])
    at_hand.note(INK, ["base", "ink's branch"])
    at_hand.note(FILM, ["base", "film's branch"])
    assert at_hand.among(frozenset({"base", "film's branch", "ink's branch"}), 9) == (INK, FILM)
    assert at_hand.among(frozenset({"base", "ink's branch"}), 9) == (INK,)
    assert at_hand.among(frozenset({"film's branch", "ink's branch"}), 9) == ()


def test_the_last_are_told_and_a_few_hundred_remembered() -> None:
    at_hand = AtHand()
    for number in range(REMEMBERED + 5):
        at_hand.note(Weights("", f"lora {number}"), ["base"])
    kept = frozenset({"base"})
    assert len(at_hand.among(kept, 10_000)) == REMEMBERED
    assert at_hand.among(kept, 1) == (Weights("", f"lora {REMEMBERED + 4}"),)

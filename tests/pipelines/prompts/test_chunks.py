"""Chunks: at most 75 tokens a row, short words whole, long ones cut."""

from pipelines.prompts.chunks import chunk


def letters(word: str) -> list[int]:
    return [ord(letter) for letter in word]


def test_an_empty_prompt_is_one_empty_row() -> None:
    assert chunk("", letters) == [[]]


def test_a_short_word_moves_whole_to_the_next_row() -> None:
    rows = chunk("a" * 74 + " bcd", letters)
    assert [len(row) for row in rows] == [74, 3]


def test_a_long_word_is_cut_at_the_border() -> None:
    rows = chunk("aaa " + "b" * 100, letters)
    assert [len(row) for row in rows] == [75, 28]


def test_a_full_row_is_not_followed_by_an_empty_one() -> None:
    assert [len(row) for row in chunk("a" * 75, letters)] == [75]


def test_weights_stay_with_their_tokens() -> None:
    rows = chunk("a (b:1.5)", letters)
    assert rows == [[(ord("a"), 1.0), (ord("b"), 1.5)]]

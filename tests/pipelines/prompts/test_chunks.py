"""Chunks: at most 75 tokens a row, short words whole, long ones cut."""

from collections.abc import Sequence

from pipelines.prompts.chunks import Rows, chunk_prompt, count_chunks


def letters(words: Sequence[str]) -> list[list[int]]:
    return [[ord(letter) for letter in word] for word in words]


def doubled(words: Sequence[str]) -> list[list[int]]:
    return letters([2 * word for word in words])


def rows(text: str) -> Rows:
    ((found,),) = chunk_prompt([text], [letters])
    return found


def test_an_empty_prompt_is_one_empty_row() -> None:
    assert rows("") == [[]]


def test_a_short_word_moves_whole_to_the_next_row() -> None:
    assert [len(row) for row in rows("a" * 74 + " bcd")] == [74, 3]


def test_a_long_word_is_cut_at_the_border() -> None:
    assert [len(row) for row in rows("aaa " + "b" * 100)] == [75, 28]


def test_a_full_row_is_not_followed_by_an_empty_one() -> None:
    assert [len(row) for row in rows("a" * 75)] == [75]


def test_weights_stay_with_their_tokens() -> None:
    assert rows("a (b:1.5)") == [[(ord("a"), 1.0), (ord("b"), 1.5)]]


def test_each_line_begins_a_row_and_all_rows_count() -> None:
    chunked = chunk_prompt(["a", "b" * 80, "c"], [letters])
    assert [len(line[0]) for line in chunked] == [1, 2, 1]
    assert count_chunks(chunked) == 4


def test_the_rows_of_two_tokenisers_are_equally_many() -> None:
    ((single, double),) = chunk_prompt(["a" * 50], [letters, doubled])
    assert ([len(row) for row in single], [len(row) for row in double]) == ([50, 0], [75, 25])
    assert count_chunks([(single, double)]) == 2


def test_a_word_is_asked_for_once_however_often_it_comes() -> None:
    asked: list[str] = []

    def noted(words: Sequence[str]) -> list[list[int]]:
        asked.extend(words)
        return letters(words)

    chunk_prompt(["a b (a) a", "b a"], [noted])
    assert asked == ["a", "b"]

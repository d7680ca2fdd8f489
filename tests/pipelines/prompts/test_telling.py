"""What users are told of the texts that their pictures are drawn from."""

from pipelines.prompts.assembly import Texts
from pipelines.prompts.telling import MAX_TOLD, told

CAT = Texts(("a cat", "sharp"), ("blur", "noise"), "a cat")


def test_equal_pictures_are_told_once_and_each_text_on_a_line() -> None:
    assert told([CAT, CAT], guided=True) == ["Prompt: a cat\nsharp", "Negative prompt: blur\nnoise"]


def test_unlike_pictures_are_told_by_their_numbers() -> None:
    dog = Texts(("a dog",), ("blur", "noise"), "a dog")
    assert told([CAT, CAT, dog], guided=True) == [
        "Prompt of pictures 1 to 2: a cat\nsharp",
        "Prompt of picture 3: a dog",
        "Negative prompt: blur\nnoise",
    ]


def test_a_negative_prompt_that_does_not_act_is_told_as_such_and_an_empty_one_not_at_all() -> None:
    assert told([CAT], guided=False)[1] == "Negative prompt, without effect at a guidance scale of 1: blur\nnoise"
    assert told([Texts(("a cat",), ("",), "a cat")], guided=True) == ["Prompt: a cat"]


def test_an_expanded_text_is_told_behind_the_others() -> None:
    (line,) = told([Texts(("a cat",), ("",), "a cat", expanded="a cat, vivid")], guided=True)
    assert line == "Prompt: a cat\na cat, vivid"


def test_no_line_is_endless() -> None:
    (line,) = told([Texts(("a" * 100_000,), ("",), "a")], guided=True)
    assert len(line) < MAX_TOLD + 20

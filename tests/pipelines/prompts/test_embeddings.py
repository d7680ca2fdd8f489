"""Embeddings in prompts: where they are spelt, how their vectors are dealt out, and what their words may be."""

import pytest

from pipelines.errors import InputFault
from pipelines.prompts.chunks import Rows, chunk_prompt
from pipelines.prompts.embeddings import Spellings, deal, named_in, spelt, token_faults
from pipelines.spec import Embedding
from tests.pipelines.prompts.test_chunks import letters
from tests.pipelines.prompts.timing import least_seconds


def rows(text: str, **places: range) -> Rows:
    ((found,),) = chunk_prompt([text], [letters], Spellings({f"<{name}>": each for name, each in places.items()}))
    return found


def read(text: str, *tokens: str) -> list[str | int]:
    """Words, and each token by its place among the others."""
    places = {token: range(at, at + 1) for at, token in enumerate(tokens)}
    parts = Spellings(places).split(text)
    return [each.strip() if isinstance(each, str) else each[0] for each in parts if each and each != " "]


def test_a_token_becomes_its_vectors_with_the_weight_that_it_stands_in() -> None:
    assert rows("a (b<s>:1.5) c", s=range(4, 6)) == [
        [(ord("a"), 1.0), (ord("b"), 1.5), (-5, 1.5), (-6, 1.5), (ord("c"), 1.0)]
    ]


@pytest.mark.parametrize(("vectors", "wanted"), [(7, [70, 7]), (8, [75, 3])])
def test_a_run_of_vectors_is_cut_at_a_border_only_where_a_word_would_be(vectors: int, wanted: list[int]) -> None:
    assert [len(row) for row in rows("a" * 70 + " <s>", s=range(vectors))] == wanted


def test_tokens_stand_where_they_are_written_and_the_longest_counts() -> None:
    assert read("<s0><s1>, a<s1>!", "<s0>", "<s1>") == [0, 1, ", a", 1, "!"]
    assert read("a cat1 or cat", "cat", "cat1") == ["a", 1, "or", 0]
    assert read("a.*b [a-z]+", ".*") == ["a", 0, "b [a-z]+"]


def test_a_token_of_letters_is_none_within_a_longer_word() -> None:
    assert read("category, cat's, wildcat, cat_2", "cat") == ["category,", 0, "'s, wildcat, cat_2"]


def test_an_embedding_is_named_up_to_what_ends_a_clause() -> None:
    text = "embedding:a-b_v1.3, (embedding:sub/c:1.2) embedding:d. embedding:a-b_v1.3 an embedding: e, preembedding:f"
    assert named_in([text, "((embedding:g)) embedding:d"]) == ["a-b_v1.3", "sub/c", "d", "g"]
    places = {"embedding:a": range(3, 4), "embedding:ab": range(5, 6)}
    assert list(Spellings(places).split("embedding:ab embedding:a-b")) == ["", range(5, 6), " ", range(0), ""]


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (r"<a\(b\)>", r"x <a\(b\)> y"),
        (r"\(cat\)", r"x \(cat\) y"),
        (r"embedding:a\(1\)", r"x embedding:a\(1\) y"),
    ],
)
def test_a_token_with_parentheses_stands_where_it_is_written_so(token: str, text: str) -> None:
    assert token_faults([Embedding(source="x", tokens=(token,))]) == []
    for within, weight in ((text, 1.0), (f"({text}:1.5)", 1.5)):
        ((found,),) = chunk_prompt([within], [letters], Spellings({token: range(4, 6)}))
        assert found == [[(ord("x"), weight), (-5, weight), (-6, weight), (ord("y"), weight)]]


def test_a_parenthesis_without_a_partner_needs_nothing() -> None:
    assert token_faults([Embedding(source="x", tokens=(":)",))]) == []
    assert read("a :) b", ":)") == ["a", 0, "b"]


def test_an_embedding_is_named_with_its_parentheses_in_pairs() -> None:
    text = r"embedding:a\(1\), (embedding:b\(2\)-c:1.2) (embedding:d) embedding:e) embedding:\(f\). embedding:g\("
    assert named_in([text]) == ["a(1)", "b(2)-c", "d", "e", "(f)", "g"]
    assert spelt("a(1)") == r"embedding:a\(1\)"
    assert named_in([spelt("a(1)")]) == ["a(1)"]


@pytest.mark.parametrize("token", ["(cat)", "(cat:1.0)", "a (b) c", "a\nb", "a\u2028b", "a  b"])
def test_a_token_that_no_prompt_can_hold_is_refused(token: str) -> None:
    (fault,) = token_faults([Embedding(source="x", tokens=("a", token), field="embeddings.0.path")])
    assert (fault.type, fault.field) == ("value_error", "embeddings.0.tokens")
    assert r"written as \( and \)" in fault.msg


def test_a_name_that_nothing_answers_leaves_the_prompt() -> None:
    assert rows("a embedding:none b") == rows("a b")


@pytest.mark.parametrize(
    ("tokens", "count", "wanted"),
    [
        (("a",), 4, [range(2, 6)]),
        (("a", "b"), 2, [range(2, 3), range(3, 4)]),
        (("a", "b"), 1, [range(2, 3), range(2, 3)]),
        (("a", "b"), 4, [range(2, 4), range(4, 6)]),
        (("a", "b"), 5, [range(2, 5), range(5, 7)]),
        (("a", "b", "c"), 4, [range(2, 4), range(4, 5), range(5, 6)]),
    ],
)
def test_vectors_are_dealt_out_to_tokens_in_order(tokens: tuple[str, ...], count: int, wanted: list[range]) -> None:
    assert list(deal(Embedding(source="x", tokens=tokens), count, 2).values()) == wanted


def test_fewer_vectors_than_tokens_are_refused() -> None:
    embedding = Embedding(source="x", tokens=("a", "b", "c"), field="embeddings.1.path")
    with pytest.raises(InputFault, match="has 2 vectors, too few for 3 tokens") as caught:
        deal(embedding, 2, 0)
    assert caught.value.field == "embeddings.1.tokens"


@pytest.mark.parametrize(
    ("first", "second", "fields"),
    [
        (("a", "b"), ("c",), []),
        (("a", "b"), ("c", "b"), ["embeddings.1.tokens"]),
        (("a", "a"), (" ",), ["embeddings.0.tokens", "embeddings.1.tokens"]),
        (("<s0>", "<s1>"), ("<s0>", "<s1>"), ["embeddings.1.tokens"]),
    ],
)
def test_each_token_stands_for_one_thing(first: tuple[str, ...], second: tuple[str, ...], fields: list[str]) -> None:
    both = [
        Embedding(source="x", tokens=tokens, field=f"embeddings.{at}.path") for at, tokens in enumerate((first, second))
    ]
    assert [fault.field for fault in token_faults(both)] == fields


@pytest.mark.parametrize(
    "prompt",
    [
        "embedding:" * 1000,
        "embedding:;" * 900,
        "embedding:" + ":" * 10_000,
        "<s" * 5000,
        "embedding:" + r"\(a" * 3000,
        "embedding:" + r"\(a\)" * 2000,
    ],
)
def test_no_prompt_takes_long(prompt: str) -> None:
    assert least_seconds(lambda: (rows(prompt, s0=range(1), s1=range(1)), named_in([prompt]))) < 0.5

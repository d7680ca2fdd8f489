"""Conditioning: prompts encoded by the two text encoders as SDXL and Fooocus have it."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin

from pipelines.conditioning import Conditioning, _weigh, encode_chunks, encode_prompt, read_prompt
from pipelines.device import PlainDevice
from pipelines.errors import InputFault
from pipelines.inputs import FoundEmbedding
from pipelines.prompts.limits import MAX_CHUNKS, MAX_WEIGHT
from pipelines.spec import Embedding
from pipelines.weights.embedding import Vocabulary, read_vocabulary
from pipelines.weights.family import Family
from tests.pipelines.weights.embeddings import LAYOUTS, Layout, vectors_of, write

LONG = " ".join(["red circle"] * 60)


def encode(family: Family, *lines: str) -> Conditioning:
    with torch.inference_mode():
        return encode_prompt(lines, family.tokenizers, family.text_encoders)


def test_a_short_prompt_is_one_chunk_as_wide_as_the_unet_attends(pocket_family: Family) -> None:
    found = encode(pocket_family, "a red circle")
    assert found.context.shape == (77, pocket_family.unet.config.cross_attention_dim)
    assert found.pooled.shape == (pocket_family.text_encoders[1].config.projection_dim,)


def test_plain_text_equals_the_stock_encoding(pocket_family: Family) -> None:
    """What diffusers' SDXL pipelines do: penultimate hidden states of both encoders, pooled output of the second."""
    states = []
    pooled = torch.empty(0)
    with torch.inference_mode():
        for tokenizer, encoder in zip(pocket_family.tokenizers, pocket_family.text_encoders, strict=True):
            pad = tokenizer.eos_token_id if encoder is pocket_family.text_encoders[0] else 0
            ids = tokenizer("a red circle").input_ids
            ids = torch.tensor([ids + [pad] * (77 - len(ids))])
            output = encoder(ids, output_hidden_states=True)
            states.append(output.hidden_states[-2][0])
            if encoder is pocket_family.text_encoders[1]:
                pooled = output.text_embeds[0]
    found = encode(pocket_family, "a red circle")
    torch.testing.assert_close(found.context, torch.cat(states, dim=-1))
    torch.testing.assert_close(found.pooled, pooled)


def test_a_long_prompt_takes_several_chunks_and_pools_the_first(pocket_family: Family) -> None:
    found = encode(pocket_family, LONG)
    assert len(found.context) % 77 == 0
    assert len(found.context) > 77


def test_lines_join_their_contexts_and_sum_their_pooled_vectors(pocket_family: Family) -> None:
    first, second = encode(pocket_family, "a red circle"), encode(pocket_family, "blue")
    both = encode(pocket_family, "a red circle", "blue")
    torch.testing.assert_close(both.context, torch.cat([first.context, second.context]))
    torch.testing.assert_close(both.pooled, first.pooled + second.pooled)


def test_weight_one_changes_nothing(pocket_family: Family) -> None:
    plain, weighted = encode(pocket_family, "a red circle"), encode(pocket_family, "a (red:1.0) circle")
    torch.testing.assert_close(weighted.context, plain.context)


def test_weights_move_tokens_keep_each_chunks_mean_and_leave_the_pooled_vector(pocket_family: Family) -> None:
    plain, weighted = encode(pocket_family, "a red circle"), encode(pocket_family, "a (red:1.6) circle")
    width = pocket_family.text_encoders[0].config.hidden_size
    assert not torch.allclose(weighted.context, plain.context, atol=1e-3)
    for part in (slice(0, width), slice(width, None)):
        assert weighted.context[:, part].mean().item() == pytest.approx(plain.context[:, part].mean().item(), rel=1e-3)
    torch.testing.assert_close(weighted.pooled, plain.pooled)


def test_different_prompts_differ(pocket_family: Family) -> None:
    assert not torch.allclose(encode(pocket_family, "a red circle").pooled, encode(pocket_family, "a blue star").pooled)


@pytest.mark.parametrize("lines", [["a"] * (MAX_CHUNKS + 1), ["😀 " * 2000]], ids=["lines", "emoji"])
def test_more_chunks_than_allowed_are_refused_wherever_they_come_from(pocket_family: Family, lines: list[str]) -> None:
    with pytest.raises(InputFault) as caught:
        encode(pocket_family, *lines)
    assert (caught.value.type, caught.value.field) == ("sequence_too_long", "prompt")


def test_as_many_chunks_as_allowed_are_one_call_of_each_encoder(
    pocket_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    for encoder in pocket_family.text_encoders:
        forward = encoder.forward

        def counted(forward: Any = forward, **given: Any) -> Any:
            called.append(len(given["input_ids"]))
            return forward(**given)

        monkeypatch.setattr(encoder, "forward", counted)
    assert len(encode(pocket_family, *["a"] * MAX_CHUNKS).context) == 77 * MAX_CHUNKS
    assert called == [MAX_CHUNKS, MAX_CHUNKS]


def test_ids_and_weights_go_to_the_device_by_its_own_way_and_nothing_else_does(pocket_family: Family) -> None:
    """By any other the engine's thread would wait for them."""

    class Counting(PlainDevice):
        def __init__(self) -> None:
            super().__init__(pocket_family.text_encoders[0].device)
            self.uploaded: list[tuple[int, ...]] = []

        def upload(self, tensor: torch.Tensor) -> torch.Tensor:
            self.uploaded.append(tuple(tensor.shape))
            return super().upload(tensor)

    device, lines = Counting(), ["a red circle", "a (blue:1.5) star"]
    prompt = read_prompt(lines, pocket_family.tokenizers)
    with torch.inference_mode():
        found = encode_chunks(prompt, pocket_family.tokenizers, pocket_family.text_encoders, device)
    assert device.uploaded == [(3, 77), (1, 77)] * 2
    wanted = encode(pocket_family, *lines)
    assert torch.equal(found.context, wanted.context)
    assert torch.equal(found.pooled, wanted.pooled)


def test_a_weight_acts_on_its_own_line_alone(pocket_family: Family) -> None:
    one, other = encode(pocket_family, LONG), encode(pocket_family, "a (blue:1.5) star")
    both = encode(pocket_family, LONG, "a (blue:1.5) star")
    torch.testing.assert_close(both.context, torch.cat([one.context, other.context]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both.pooled, one.pooled + other.pooled, atol=1e-4, rtol=1e-4)


def test_weights_beyond_the_limit_are_refused_and_at_it_are_finite(pocket_family: Family) -> None:
    for weight in (MAX_WEIGHT, -MAX_WEIGHT):
        assert encode(pocket_family, f"a (red:{weight}) circle").context.isfinite().all()
        with pytest.raises(InputFault, match="weight"):
            encode(pocket_family, f"a (red:{1.01 * weight}) circle")


def test_a_row_whose_mean_becomes_zero_stays_finite() -> None:
    """A weight that does so can be found for any long prompt; nothing could restore the mean."""
    states = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])
    moved = _weigh(states, torch.zeros(2, 2), torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(moved, torch.tensor([[[1.0, 3.0], [-2.0, -2.0]]]))


def vocabulary(folder: Path, family: Family, layout: Layout, *tokens: str, words: str = "red circle") -> Vocabulary:
    """Of an embedding that is made of the vectors of some words."""
    path = write(folder / "own.safetensors", layout(*vectors_of(family, words)))
    widths = [encoder.config.hidden_size for encoder in family.text_encoders]
    return read_vocabulary([FoundEmbedding(Embedding(source="own", tokens=tokens), path)], (widths[0], widths[1]))


def spelt(family: Family, vocabulary: Vocabulary, *lines: str) -> Conditioning:
    prompt = read_prompt(lines, family.tokenizers, vocabulary=vocabulary)
    with torch.inference_mode():
        return encode_chunks(prompt, family.tokenizers, family.text_encoders, PlainDevice(family.device))


def assert_same(found: Conditioning, wanted: Conditioning) -> None:
    torch.testing.assert_close(found.context, wanted.context, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled, wanted.pooled, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "half" not in name])
def test_an_embedding_of_the_vectors_of_words_says_what_they_say(
    pocket_family: Family, tmp_path: Path, layout: str
) -> None:
    own = vocabulary(tmp_path, pocket_family, LAYOUTS[layout], "<own>")
    assert_same(spelt(pocket_family, own, "a <own>, blue"), encode(pocket_family, "a red circle , blue"))


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("a (<own>:1.4) star", "a (red circle:1.4) star"),
        ("((<own>))", "((red circle))"),
        ("a <own> (star:1.2)", "a red circle (star:1.2)"),
        (f"{LONG} <own>", f"{LONG} red circle"),
        ("<own> <own>", "red circle red circle"),
    ],
)
def test_emphasis_and_chunks_hold_for_vectors_as_for_words(
    pocket_family: Family, tmp_path: Path, written: str, wanted: str
) -> None:
    own = vocabulary(tmp_path, pocket_family, LAYOUTS["kohya"], "<own>")
    assert_same(spelt(pocket_family, own, written), encode(pocket_family, wanted))


def test_lines_with_and_without_vectors_share_a_call(pocket_family: Family, tmp_path: Path) -> None:
    own = vocabulary(tmp_path, pocket_family, LAYOUTS["kohya"], "<own>")
    lines = ["a <own>", "a (blue:1.5) star", "<own> on green"]
    assert_same(
        spelt(pocket_family, own, *lines),
        encode(pocket_family, *(line.replace("<own>", "red circle") for line in lines)),
    )


def test_a_prompt_that_has_no_room_for_all_vectors_is_refused(pocket_family: Family, tmp_path: Path) -> None:
    own = vocabulary(tmp_path, pocket_family, LAYOUTS["kohya"], "<own>", words="red " * 40)
    with pytest.raises(InputFault, match="chunks"):
        spelt(pocket_family, own, " ".join(["<own>"] * 80))


def test_vectors_equal_what_diffusers_makes_of_them(pocket_family: Family, tmp_path: Path) -> None:
    """Its loader lengthens the tables of words; the encoders are copies here, for these are shared."""

    class Loader(TextualInversionLoaderMixin):
        components: Mapping[str, object] = {}
        hf_device_map = None

    generator = torch.Generator().manual_seed(3)
    given = [torch.randn(3, encoder.config.hidden_size, generator=generator) for encoder in pocket_family.text_encoders]
    path = write(tmp_path / "own.safetensors", {"clip_l": given[0], "clip_g": given[1]})
    states, pooled = [], torch.empty(0)
    for at, vectors in enumerate(given):
        encoder, tokenizer = copy.deepcopy(pocket_family.text_encoders[at]), copy.deepcopy(pocket_family.tokenizers[at])
        Loader().load_textual_inversion(vectors, token="<own>", text_encoder=encoder, tokenizer=tokenizer)
        ids = tokenizer(Loader().maybe_convert_prompt("a <own> on blue", tokenizer)).input_ids
        rows = torch.tensor([ids + [(tokenizer.eos_token_id, 0)[at]] * (77 - len(ids))])
        with torch.inference_mode():
            output = encoder(input_ids=rows, output_hidden_states=True)
        states.append(output.hidden_states[-2][0])
        pooled = output.text_embeds[0] if at else pooled
    own = read_vocabulary(
        [FoundEmbedding(Embedding(source="own", tokens=("<own>",)), path)], (given[0].shape[1], given[1].shape[1])
    )
    assert_same(spelt(pocket_family, own, "a <own> on blue"), Conditioning(torch.cat(states, dim=-1), pooled))


def test_a_line_beyond_the_pooled_ones_is_attended_to_and_not_summed(pocket_family: Family) -> None:
    device = PlainDevice(pocket_family.text_encoders[0].device)

    def encoded(lines: list[str], pooled: int | None = None) -> Conditioning:
        prompt = read_prompt(lines, pocket_family.tokenizers, pooled=pooled)
        with torch.inference_mode():
            return encode_chunks(prompt, pocket_family.tokenizers, pocket_family.text_encoders, device)

    both, first, longer = encoded(["a circle", "vivid"]), encoded(["a circle"]), encoded(["a circle", "vivid"], 1)
    assert torch.equal(longer.context, both.context)
    torch.testing.assert_close(longer.pooled, first.pooled, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(longer.pooled, both.pooled, atol=1e-2)

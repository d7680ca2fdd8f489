"""Embeddings that a LoRA's file brings: which ones, whether they fit, and the vectors that prompts are read with."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.errors import InputFault
from pipelines.inputs import FoundEmbedding, FoundLora
from pipelines.preparing import prepare
from pipelines.spec import Embedding, Guidance, Lora, Size, Spec
from pipelines.weights.embedding import read_vocabulary
from pipelines.weights.lora.bundled import MAX_BUNDLED, bundled_names
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.reading import read_lora
from pipelines.weights.variants import VariantStore
from tests.pipelines.weights import tiny
from tests.pipelines.weights.loras import PLENTY, of

WIDTHS = 8, 8
NARROW, WIDE = torch.randn(3, 8), torch.randn(3, 8)
LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
LORA = {f"{LAYER}.lora_down.weight": torch.ones(2, 16), f"{LAYER}.lora_up.weight": torch.ones(16, 2)}
FIELD = "loras.0.path"


def bundle(name: str, narrow: Tensor = NARROW, wide: Tensor = WIDE) -> dict[str, Tensor]:
    """The tensors of an embedding for SDXL, as trainers put them into a LoRA's file."""
    return {f"bundle_emb.{name}.clip_l": narrow, f"bundle_emb.{name}.clip_g": wide}


def older(name: str, vectors: Tensor) -> dict[str, Tensor]:
    """The same for Stable Diffusion 1.5 and 2, which have one text encoder."""
    return {f"bundle_emb.{name}.string_to_param.*": vectors}


def save(folder: Path, *parts: dict[str, Tensor], name: str = "a") -> Path:
    path = folder / f"{name}.safetensors"
    save_file({name: each.clone() for part in parts for name, each in part.items()}, path)
    return path


def found(prompt: str, *loras: FoundLora, own: tuple[FoundEmbedding, ...] = ()) -> tuple[list[FoundEmbedding], str]:
    """The embeddings that a prompt is read with, and what is told of them."""
    spec = Spec(
        prompt=prompt,
        size=Size(width=64, height=64),
        seeds=(1,),
        steps=1,
        sampler="euler",
        schedule="karras",
        guidance=Guidance(),
    )
    inputs = prepare(spec, [], loras, embeddings=own)
    return [*inputs.embeddings], "\n".join(inputs.notes)


def lora(path: Path, *, force: bool = False, scale: float = 1.0) -> FoundLora:
    return FoundLora(Lora(source="a", scale=scale, field=FIELD, force=force), path)


def test_a_lora_brings_its_embeddings_under_their_names(tmp_path: Path) -> None:
    path = save(tmp_path, LORA, bundle("mine"), bundle("a(b)", WIDE[:1], NARROW[:1]))
    brought, told = found("a mine, embedding:mine", lora(path))
    assert told == ""
    vocabulary = read_vocabulary(brought, WIDTHS)
    assert vocabulary.spellings.places == {"mine": range(1, 4), r"a\(b\)": range(1), "embedding:mine": range(4, 7)}
    assert torch.equal(vocabulary.vectors[0], torch.cat([WIDE[:1], NARROW, NARROW]))
    assert torch.equal(vocabulary.vectors[1], torch.cat([NARROW[:1], WIDE, WIDE]))


def test_what_is_applied_is_told_with_its_name(tmp_path: Path) -> None:
    match = Targets(tiny.unet(), tiny.text_encoders()).match(read_lora(save(tmp_path, LORA, bundle("mine"))))
    assert (match.tensors, match.unmatched, match.bundled) == (4, (), ("mine",))
    assert str(match) == "all 4 tensors of this LoRA were applied; it brings mine, as prompts may name it"


@pytest.mark.parametrize("branch_bytes", [None, 2**20])
def test_a_file_of_nothing_else_changes_no_weight(tmp_path: Path, branch_bytes: int | None) -> None:
    store = VariantStore(tiny.family(), PLENTY, branch_bytes=branch_bytes)
    variant = store.get(of((save(tmp_path, bundle("mine")), 1.0)))
    assert torch.equal(tiny.predict(variant.unet), tiny.predict(store.get(of()).unet))


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (older("mine", torch.ones(2, 768)), "is for Stable Diffusion 1.5: it has 768 numbers"),
        (older("mine", torch.ones(2, 1024)), "is for Stable Diffusion 2: it has 1024 numbers"),
        (bundle("mine", torch.ones(1, 9)), "does not fit the model: .*9 numbers a vector in clip_l"),
        (bundle("mine", NARROW[:2]), "has 2 vectors for the first text encoder and 3 for the second"),
        (bundle("mine", NARROW * 1e5), "larger than 10000"),
        ({**bundle("mine"), "bundle_emb.mine.t5": torch.ones(1, 8)}, "is none: it has 3 tensors"),
    ],
)
def test_one_that_does_not_fit_is_refused_by_its_name_and_left_out_by_force(
    tmp_path: Path, tensors: dict[str, Tensor], told: str
) -> None:
    path, targets = save(tmp_path, LORA, tensors), Targets(tiny.unet(), tiny.text_encoders())
    with pytest.raises(InputFault, match=rf"applied as a whole: it brings the embedding mine \(.*{told}") as caught:
        targets.match(read_lora(path))
    brought, _ = found("a mine", lora(path))
    with pytest.raises(InputFault) as again:
        read_vocabulary(brought, WIDTHS)
    assert (again.value.field, again.value.msg) == (FIELD, caught.value.msg)
    forced = targets.match(read_lora(path), force=True)
    assert (set(forced.unmatched), len(forced.layers), forced.bundled) == ({*tensors}, 1, ())
    brought, _ = found("a mine", lora(path, force=True))
    assert not read_vocabulary(brought, WIDTHS).spellings.places


@pytest.mark.parametrize("name", ["", " ", "a  b", "a\nb"])
def test_a_name_that_no_prompt_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, LORA, bundle(name))
    assert bundled_names(path) == ()
    with pytest.raises(InputFault, match="which no prompt can name"):
        Targets(tiny.unet(), tiny.text_encoders()).match(read_lora(path))


def test_more_than_a_prompt_is_looked_through_for_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, LORA, *(bundle(f"e{at}") for at in range(MAX_BUNDLED + 1)))
    assert len(bundled_names(path)) == MAX_BUNDLED
    with pytest.raises(InputFault, match="brings 17 embeddings"):
        read_lora(path)


def test_a_name_that_stands_for_another_keeps_what_it_stands_for(tmp_path: Path) -> None:
    first, second = save(tmp_path, bundle("mine")), save(tmp_path, bundle("mine", WIDE, NARROW), name="b")
    brought, told = found("a mine", lora(first), lora(second), lora(first))
    assert [each.path for each in brought] == [first]
    assert told == f"{FIELD}: this LoRA brings the embedding 'mine', which stands for another one here"
    own = FoundEmbedding(Embedding(source="x", tokens=("mine",)), second)
    assert found("a mine", lora(first), own=(own,))[0] == [own]


def test_what_does_not_act_or_is_no_lora_brings_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, LORA, bundle("mine"))
    assert found("a mine", lora(path, scale=0)) == ([], "")
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04 bundle_emb.", whole[:-1], whole[:40]):
        path.write_bytes(content)
        assert bundled_names(path) == ()
    assert bundled_names(tmp_path / "none") == ()

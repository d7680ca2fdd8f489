"""The prompt expansion on the pocket family's language model: seeds, batches, bounds and lists."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from benchmarks.pocket.world.exam import accuracy, held_out
from models.pocket.style_words import STYLE_WORDS
from pipelines.errors import WeightsFault
from pipelines.expansion import ROWS, Draw, PromptExpander, load
from pipelines.prompts import assembly
from pipelines.spec import Guidance, Size
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio, last, spec

RED, LONG = "a red circle on a blue background", "a big green star, " * 60 + "dark"
PROMPTS = (RED, "a big green star", LONG, "two (Warm:1.2) squares,  and \\(a <circle>", "__unknown__", "🙂")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(pocket_family_folder: Path) -> Path:
    return pocket_family_folder / "expansion"


@pytest.fixture(scope="module")
def expander(folder: Path) -> PromptExpander:
    return load(folder)


def added(prompt: str, expanded: str) -> list[str]:
    """The words behind a prompt, which must be there as it was."""
    assert expanded.startswith(prompt)
    return expanded.removeprefix(prompt).replace(",", " ").split()


def test_a_seed_has_its_words_alone_and_in_any_company(expander: PromptExpander) -> None:
    seeds = [3, 2**63 - 1, 7, 0, 3, 5]
    together = expander.expand(PROMPTS, seeds)
    alone = [expander.expand([prompt], [seed])[0] for prompt, seed in zip(PROMPTS, seeds, strict=True)]
    assert together == alone


def test_another_seed_has_other_words(expander: PromptExpander) -> None:
    found = expander.expand([RED] * 5, range(5))
    assert len({*found}) == 5


def test_a_prompt_stays_as_it_is_and_goes_on_with_listed_words_none_twice(expander: PromptExpander) -> None:
    for prompt, expanded in zip(PROMPTS, expander.expand(PROMPTS, range(len(PROMPTS))), strict=True):
        words = added(prompt, expanded)
        assert words
        assert {*words} <= {*STYLE_WORDS}
        assert len({*words}) == len(words)
        assert not {*words} & {word.strip("(,:") for word in prompt.lower().split()}
    assert "warm" not in added(PROMPTS[3], expander.expand([PROMPTS[3]], [9])[0])


def test_nothing_is_added_to_nothing(expander: PromptExpander) -> None:
    assert expander.expand(["", RED, ""], [1, 1, 2]) == ["", expander.expand([RED], [1])[0], ""]
    assert expander.expand([], []) == []


def test_many_prompts_are_more_than_one_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty, count = load(folder, max_new_tokens=6), ROWS + 1
    generate, rows = hasty._model.generate, list[int]()

    def counted(**given: Any) -> Any:
        rows.append(len(given["input_ids"]))
        return generate(**given)

    monkeypatch.setattr(hasty._model, "generate", counted)
    found = hasty.expand([RED] * count, range(count))
    assert rows == [ROWS, 1]
    assert found[-1:] == hasty.expand([RED], [ROWS])


def test_lists_act(folder: Path, tmp_path: Path) -> None:
    few = load(folder, allowed=("dark", "Cinematic", "glossy"), blocked=("dark",))
    for expanded in few.expand([RED] * 4, range(4)):
        assert {*added(RED, expanded)} == {"cinematic", "glossy"}
    path = tmp_path / "blocked.txt"
    path.write_text("\n".join(STYLE_WORDS[:40]))
    for expanded in load(folder, blocked=path).expand([RED] * 4, range(4)):
        words = added(RED, expanded)
        assert words
        assert {*words} <= {*STYLE_WORDS[40:]}


def test_without_a_list_the_words_are_plain_ones(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "free", ignore=shutil.ignore_patterns("positive.txt"))
    for expanded in load(tmp_path / "free").expand([RED] * 4, range(4)):
        words = added(RED, expanded)
        assert words
        assert all(word.isalpha() for word in words)


@pytest.mark.parametrize("most", [1, 4, 20])
def test_no_more_tokens_are_added_than_are_allowed(folder: Path, most: int) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for expanded in load(folder, max_new_tokens=most).expand([RED] * 4, range(4)):
        new = expanded.removeprefix(RED).removeprefix(",")
        assert most // 2 <= len(tokenizer(new).input_ids) <= most  # a word that is cut short is left out


def test_a_model_reads_its_own_length_whatever_is_asked_for(folder: Path) -> None:
    """It has 128 places, of which half stay for what it reads."""
    assert added(LONG, load(folder, max_new_tokens=512).expand([LONG], [1])[0])


def test_there_is_no_word_after_the_time_is_up(folder: Path) -> None:
    with pytest.raises(TimeoutError):
        load(folder, time_limit_s=0.0).expand([RED], [1])


def test_tokens_are_drawn_as_likely_as_the_model_has_them_of_those_that_may_come() -> None:
    count = 2000
    choice, shares = torch.tensor([1, 2, 4]), torch.tensor([0.6, 0.3, 0.1])
    scores = torch.full((count, 5), 9.0)
    scores[:, choice] = shares.log() + 3
    drawn = Draw(choice, range(count), math.inf)(torch.LongTensor([]), scores).argmax(dim=1)
    found = torch.bincount(drawn, minlength=5) / count
    assert torch.allclose(found[choice], shares, atol=0.04)
    assert found[choice].sum() == 1


@pytest.mark.long
def test_pictures_show_what_prompts_say_with_the_words_beside_them(
    pocket_family: Family, expander: PromptExpander
) -> None:
    scenes, said = held_out(12)
    studio, waiting = Studio(pocket_family), []
    size, guidance = Size(width=256, height=256), Guidance(scale=2)
    for seed, prompt in enumerate(said):
        asked = spec(prompt=prompt, size=size, seeds=(seed,), steps=8, guidance=guidance, expand_prompt=True)
        inputs = studio.inputs(asked)
        inputs = replace(inputs, texts=assembly.expanded(inputs.texts, expander.expand([prompt], [seed])))
        waiting.append(studio.listen(prompt, asked, inputs))
    found = accuracy(scenes, [last(events).images[0] for events in waiting])
    studio.drawer.close()
    assert min(found.values()) >= 0.9


def broken(folder: Path, tmp_path: Path, change: str) -> Path:
    other = tmp_path / change
    shutil.copytree(folder, other)
    match change:
        case "no-weights":
            (other / "model.safetensors").unlink()
        case "pickled":
            torch.save(load_file(other / "model.safetensors"), other / "pytorch_model.bin")
            (other / "model.safetensors").unlink()
        case "half":
            tensors = load_file(other / "model.safetensors")
            save_file(dict([*tensors.items()][1:]), other / "model.safetensors", {"format": "pt"})
        case "code":
            config = json.loads((other / "config.json").read_text())
            config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "a.B", "AutoModelForCausalLM": "a.C"}}
            (other / "config.json").write_text(json.dumps(config))
            (other / "a.py").write_text("raise SystemExit('it was run')")
        case "no-tokenizer":
            (other / "vocab.json").unlink()
    return other


@pytest.mark.parametrize("change", ["no-weights", "pickled", "half", "code", "no-tokenizer"])
def test_a_folder_that_is_no_model_is_refused_by_name(folder: Path, tmp_path: Path, change: str) -> None:
    with pytest.raises(WeightsFault, match=change):
        load(broken(folder, tmp_path, change))

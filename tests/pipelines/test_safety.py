"""The safety checker's scores, flags and loading."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from pipelines.errors import WeightsFault
from pipelines.events import Pixels
from pipelines.safety import Checker, SafetyChecker, SafetyClassifier, load

PREPROCESSOR = {
    "size": {"shortest_edge": 30},
    "crop_size": {"height": 30, "width": 30},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}


def model() -> StableDiffusionSafetyChecker:
    torch.manual_seed(3)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(vision_config={**vision, "image_size": 30, "patch_size": 10}, projection_dim=8)
    made = StableDiffusionSafetyChecker(config).eval()
    with torch.no_grad():
        made.concept_embeds.copy_(torch.randn(17, 8))
        made.special_care_embeds.copy_(torch.randn(3, 8))
        made.concept_embeds_weights.fill_(2.0)
        made.special_care_embeds_weights.fill_(2.0)
    return made


def write(folder: Path, made: StableDiffusionSafetyChecker) -> Path:
    (folder / "config.json").write_text(json.dumps(made.config.to_dict()))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    save_file({name: tensor.contiguous() for name, tensor in made.state_dict().items()}, folder / "model.safetensors")
    return folder


def pictures() -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)


def first(folder: Path) -> SafetyChecker:
    """The checker of a folder, which is CompVis'."""
    loaded = load(folder, "cpu")
    assert isinstance(loaded, SafetyChecker)
    return loaded


def cosines(made: StableDiffusionSafetyChecker, folder: Path) -> torch.Tensor:
    made.concept_embeds_weights.data.zero_()
    return first(write(folder, made)).scores(pictures())


def test_thresholds_above_every_cosine_flag_nothing(tmp_path: Path) -> None:
    assert load(write(tmp_path, model()), "cpu").flags(pictures()) == [False] * 4


def test_exactly_the_pictures_above_a_threshold_are_flagged(tmp_path: Path) -> None:
    made = model()
    first = cosines(made, tmp_path)[:, 0]
    made.concept_embeds_weights.data.fill_(2.0)
    made.concept_embeds_weights.data[0] = first.sort().values[1:3].mean()
    expected = (first > made.concept_embeds_weights[0]).tolist()
    assert sum(expected) == 2
    assert load(write(tmp_path, made), "cpu").flags(pictures()) == expected


def test_special_care_lowers_the_bar_by_a_hundredth(tmp_path: Path) -> None:
    made = model()
    first = cosines(made, tmp_path)[:, 0]
    made.concept_embeds_weights.data.fill_(2.0)
    made.concept_embeds_weights.data[0] = first.max() + 0.005
    assert not any(load(write(tmp_path, made), "cpu").flags(pictures()))
    made.special_care_embeds_weights.data.fill_(-1.5)
    assert load(write(tmp_path, made), "cpu").flags(pictures())[int(first.argmax())]


@pytest.mark.parametrize("special", [2.0, -0.05, -2.0])
def test_flags_agree_with_the_published_implementation(tmp_path: Path, special: float) -> None:
    made = model()
    made.concept_embeds_weights.data.fill_(0.55)
    made.special_care_embeds_weights.data.fill_(special)
    checker = load(write(tmp_path, made), "cpu")
    processor = CLIPImageProcessorPil(**PREPROCESSOR)
    images = list(pictures())
    values = processor(images=images, return_tensors="pt")["pixel_values"]
    _, expected = made(values, [np.zeros(1)] * 4)
    assert checker.flags(pictures()) == expected


def test_preprocessing_agrees_with_the_published_processor(tmp_path: Path) -> None:
    checker = first(write(tmp_path, model()))
    images = list(pictures())
    expected = CLIPImageProcessorPil(**PREPROCESSOR)(images=images, return_tensors="pt")["pixel_values"]
    assert torch.allclose(checker._pixel_values(pictures()), expected, atol=0.02)


def test_a_picture_alone_gets_the_flag_that_it_gets_in_a_batch(tmp_path: Path) -> None:
    checker = first(write(tmp_path, model()))
    together = checker.scores(pictures())
    alone = torch.cat([checker.scores(pictures()[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, atol=2e-3)


LABELS = {0: "normal", 1: "nsfw"}
STRETCHED = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 30, "width": 30},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
}


def classifier(labels: dict[int, str] = LABELS) -> Any:
    torch.manual_seed(5)
    config = ViTConfig(
        image_size=30,
        patch_size=10,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        id2label=labels,
        label2id={label: place for place, label in labels.items()},
    )
    made: Any = ViTForImageClassification(config)
    with torch.no_grad():
        made.classifier.weight.mul_(50)
    return made.eval()


def write_classifier(folder: Path, made: Any, preprocessing: dict[str, Any] = STRETCHED) -> Path:
    made.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder


@pytest.mark.parametrize("labels", [LABELS, {0: "nsfw", 1: "sfw", 2: "drawing"}])
def test_objections_of_a_classifier_are_those_of_the_published_implementation(
    tmp_path: Path, labels: dict[int, str]
) -> None:
    made = classifier(labels)
    checker = load(write_classifier(tmp_path, made), "cpu")
    values = ViTImageProcessorPil(**STRETCHED)(images=list(pictures()), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        likely = made(pixel_values=values).logits.softmax(dim=1)[:, made.config.label2id["nsfw"]]
    found = checker.objections(pictures())
    assert found == pytest.approx((likely - 0.5).tolist(), abs=2e-3)
    assert checker.flags(pictures()) == [each > 0 for each in found]
    assert len(set(found)) > 1
    assert checker.objections(pictures()[:0]) == []


def test_a_classifier_sees_stretched_pictures_as_its_processor_makes_them(tmp_path: Path) -> None:
    checker = load(write_classifier(tmp_path, classifier()), "cpu")
    assert isinstance(checker, SafetyClassifier)
    expected = ViTImageProcessorPil(**STRETCHED)(images=list(pictures()), return_tensors="pt")["pixel_values"]
    assert torch.allclose(checker._preprocessing.values(pictures()), expected, atol=0.02)


def test_a_classifier_without_the_label_is_told(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, classifier({0: "cat", 1: "dog"}))
    with pytest.raises(WeightsFault, match=r"labels \(cat, dog\) is nsfw"):
        load(folder, "cpu")


def test_missing_tensors_of_a_classifier_are_told(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, classifier())
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsFault, match=r"another architecture .* classifier\.weight"):
        load(folder, "cpu")


def test_a_damaged_classifier_is_told(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, classifier())
    (folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(WeightsFault, match="cannot be read"):
        load(folder, "cpu")


def test_no_pictures_no_flags(tmp_path: Path) -> None:
    assert load(write(tmp_path, model()), "cpu").flags(np.zeros((0, 8, 8, 3), np.uint8)) == []


def test_published_names_and_position_ids_load_too(tmp_path: Path) -> None:
    folder = write(tmp_path, model())
    plain = first(folder).scores(pictures())
    tensors = load_file(folder / "model.safetensors")
    published = {name.replace("vision_model.", "vision_model.vision_model.", 1): t for name, t in tensors.items()}
    published["vision_model.vision_model.embeddings.position_ids"] = torch.arange(10)[None]
    save_file(published, folder / "model.safetensors")
    assert torch.equal(first(folder).scores(pictures()), plain)


def test_missing_tensors_are_told(tmp_path: Path) -> None:
    folder = write(tmp_path, model())
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsFault, match="visual_projection"):
        load(folder, "cpu")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path, model())
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsFault, match="preprocessor_config"):
        load(folder, "cpu")


def test_a_checker_can_be_built_from_a_model(tmp_path: Path) -> None:
    loaded = first(write(tmp_path, model()))
    again = SafetyChecker(loaded._model, loaded._preprocessing)
    assert again.flags(pictures()) == loaded.flags(pictures())


def test_what_does_not_say_its_objections_is_no_checker() -> None:
    with pytest.raises(TypeError, match="objections"):
        type("Silent", (Checker,), {})()

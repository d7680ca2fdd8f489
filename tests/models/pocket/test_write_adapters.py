"""What the pocket family has beside its checkpoint is in the published layouts."""

from pathlib import Path

import torch
from PIL import Image
from skimage import data
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from models.pocket.trained import trained
from models.pocket.write_adapters import write_tower
from pipelines.weights.image_prompt import tower_features, tower_input


@torch.no_grad()
def test_the_tower_is_loaded_as_clip_towers_are(tmp_path: Path) -> None:
    write_tower(tmp_path / "clip_vision", trained("vision"))
    tower = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "clip_vision", local_files_only=True)
    prepare = CLIPImageProcessor.from_pretrained(tmp_path / "clip_vision")
    picture = data.astronaut()
    prepared = prepare(Image.fromarray(picture), return_tensors="pt").pixel_values
    assert (prepared - tower_input([picture])).abs().max() < 0.05  # 8-bit rounding on either way
    assert tower_features(tower, prepared).shape == (1, 65, 64)

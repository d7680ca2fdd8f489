"""What the pocket model was trained to: pictures show what prompts say, as the oracle reads it.

A reduced scoring of what is trained so far: few prompts, so the bounds leave room for chance. models.pocket.score asks
a hundred.
"""

from collections.abc import Iterator

import pytest
import torch

from models.pocket import score
from models.pocket.trained import file_of
from models.pocket.training.decoder import error
from models.pocket.world.exam import held_out, marks
from pipelines.drawing import Drawer
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio

PROMPTS = 24


@pytest.fixture(scope="module")
def studio(pocket_family: Family) -> Iterator[Studio]:
    studio = Studio(pocket_family)
    yield studio
    studio.drawer.close()


@pytest.mark.parametrize(("side", "count"), [(256, 8), (1024, 2)])
def test_pictures_come_back_from_the_vae(pocket_family: Family, side: int, count: int) -> None:
    with torch.inference_mode():
        assert error(pocket_family.vae, side, count) < 0.033  # 0.03 in the mean of more pictures


@pytest.mark.skipif(not file_of("unet").is_file(), reason="the UNet is not trained yet")
def test_pictures_show_what_prompts_say(studio: Studio) -> None:
    scenes, said = held_out(PROMPTS)
    drawer: Drawer = studio.drawer
    specs = [score.guided(text, 256, seed, steps=20) for seed, text in enumerate(said)]
    found = marks(scenes, score.drawn(drawer, studio.family.catalogue, specs))
    assert found["background"] > 0.75
    assert found["colour"] > 0.75
    assert found["shape"] > 0.6
    assert found["place"] > 0.6

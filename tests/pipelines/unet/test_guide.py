"""What a guide puts into an evaluation, by how far a run has come and by what it draws on."""

from dataclasses import replace

import torch

from pipelines.unet.guide import ControlImage, Guide, ImageReference
from pipelines.unet.rows import ImageAdapter
from pipelines.weights.family import Family
from tests.pipelines.unet.calling import SHAPE, guide, noise


def holding_all(family: Family) -> Guide:
    """A guide with a control image, a picture to attend to until the middle, and a head."""
    control = ControlImage(family.unet, noise(1, 32, 16, 16), 1.0, until=0.0)  # type: ignore[arg-type]
    picture = ImageReference(ImageAdapter({}), noise(2, 16, 160), noise(3, 16, 160), 0.7, stop_at=0.5)
    plain = guide(family, 1, negative=True, scale=4.0)
    return replace(plain, controls=(control,), references=(picture,), head=noise(4, 32, 16, 16))


def test_a_picture_acts_below_its_stop_and_the_negative_row_attends_to_none_of_it(pocket_family: Family) -> None:
    led = holding_all(pocket_family)
    early, late = (led.evaluate(noise(9, *SHAPE), 1.0, timestep) for timestep in (900, 300))
    assert early.negative is not None
    (shown,), (unseen,) = early.positive.images, early.negative.images
    assert (shown.scale, unseen.scale) == (0.7, 0.7)
    assert torch.equal(shown.tokens, led.references[0].tokens)
    assert torch.equal(unseen.tokens, led.references[0].negative)
    assert (late.positive.images, late.negative and late.negative.images) == ((), ())


def test_on_other_weights_nothing_is_left_of_what_was_made_for_these(pocket_family: Family) -> None:
    """fooocus-facts 4.6: at a swap all of them go, on both rows; prompts, sizes and guidance stay."""
    led = holding_all(pocket_family)
    before = led.evaluate(noise(9, *SHAPE), 1.0, 900)
    after = led.on(pocket_family.unet, "others").evaluate(noise(9, *SHAPE), 1.0, 900)
    for one, other in ((before.positive, after.positive), (before.negative, after.negative)):
        assert one is not None
        assert other is not None
        assert one.controls
        assert one.images
        assert one.head is not None
        assert (other.controls, other.images, other.head) == ((), (), None)
        assert other.text is one.text
        assert other.size_ids is one.size_ids
    assert (after.group, after.scale) == ("others", before.scale)

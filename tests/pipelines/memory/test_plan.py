"""The memory plan: what usual cards decide for SDXL, refusals by figures, and that more memory never gives less."""

import re
from dataclasses import replace

import pytest

from pipelines.errors import WeightsFault
from pipelines.memory.cards import of_sdxl
from pipelines.memory.describing import describe, largest_side, rows_of, taking_turns
from pipelines.memory.plan import GB, MB, RESERVE, Footprint, MemoryPlan, latent_pixels, plan_memory

ROWS = 16
SMALL = Footprint("small", 40 * MB, 4 * MB, MB, 3000, 20_000, {"canny": 16 * MB, "vision": 10 * MB})
UNALIKE = Footprint("of text", 3 * GB, 8 * GB, GB, 200_000, 1000, {"vision": 2 * GB})


@pytest.fixture(scope="module")
def sdxl() -> Footprint:
    return of_sdxl("float16", {})


@pytest.fixture(scope="module")
def sdxl_in_float32() -> Footprint:
    return of_sdxl("float32", {})


def planned(footprint: Footprint, gb: float, rows: int = ROWS) -> MemoryPlan:
    return plan_memory(footprint, int(gb * GB), rows)


@pytest.mark.parametrize(
    ("gb", "resident", "together", "rows", "side"),
    [
        (8, False, False, 7, 1024),
        (12, False, True, 8, 1024),
        (16, False, True, 16, 2048),
        (24, False, True, 16, 2048),
        (80, True, True, 16, 2048),
    ],
)
def test_what_cards_decide_for_sdxl(
    sdxl: Footprint, gb: int, resident: bool, together: bool, rows: int, side: int
) -> None:
    plan = planned(sdxl, gb)
    assert plan.resident == resident
    assert (sdxl.base <= plan.parts) == together
    assert (rows_of(plan, 1024, ROWS), largest_side(plan, sdxl)) == (rows, side)


@pytest.mark.parametrize("gb", [8, 12, 16, 24, 80])
def test_what_is_planned_fits_and_is_enough(sdxl: Footprint, gb: int) -> None:
    plan = planned(sdxl, gb)
    assert plan.parts + plan.working + RESERVE == plan.memory == gb * GB
    assert plan.parts >= sdxl.largest
    assert plan.working >= max(sdxl.vae_pixel, 2 * sdxl.row_pixel) * latent_pixels(1024)
    if plan.resident:
        assert plan.merged == plan.parts - sdxl.base >= sdxl.job
    else:
        assert plan.merged == 0


def test_what_takes_turns_on_a_small_card_and_not_on_a_larger_one(sdxl: Footprint) -> None:
    words = [" ".join(taking_turns(planned(sdxl, gb), sdxl)) for gb in (8, 12, 80)]
    for each, smallest, middle in (("text encoders", True, False), ("control", True, False), ("LoRAs", True, True)):
        assert [each in told for told in words] == [smallest, middle, False]


def test_a_family_that_cannot_fit_is_refused_with_the_figures(sdxl: Footprint) -> None:
    with pytest.raises(WeightsFault, match=r"SDXL needs at least 7\.3 GB .*there are 4\.0 GB: take ") as fault:
        planned(sdxl, 4)
    least, unet, working, reserve, _ = map(float, re.findall(r"([\d.]+) GB", str(fault.value)))
    assert least == pytest.approx(unet + working + reserve, abs=0.16)  # all are rounded to a tenth
    assert planned(sdxl, least + 0.1).parts >= sdxl.unet
    with pytest.raises(WeightsFault):
        planned(sdxl, least - 0.1)


def test_float32_needs_twice_as_much(sdxl_in_float32: Footprint) -> None:
    with pytest.raises(WeightsFault, match=r"there are 8\.0 GB: take float16 or bfloat16"):
        planned(sdxl_in_float32, 8)
    assert not planned(sdxl_in_float32, 16).resident
    assert planned(sdxl_in_float32, 80).resident


@pytest.mark.parametrize("rows", [2, 3, 8, 16, 64, 1024])
@pytest.mark.parametrize("family", ["sdxl", "small", "unalike"])
def test_more_memory_never_gives_less(sdxl: Footprint, family: str, rows: int) -> None:
    footprint = {"sdxl": sdxl, "small": SMALL, "unalike": UNALIKE}[family]
    before: tuple[int, ...] = ()
    for memory in range(GB, 120 * GB, 48 * MB):
        try:
            plan = plan_memory(footprint, memory, rows)
        except WeightsFault:
            assert not before
            continue
        now = (plan.resident, plan.working, largest_side(plan, footprint), plan.rows_at(latent_pixels(1024)))
        assert all(less <= more for less, more in zip(before, now, strict=False)), (memory, before, now)
        before = now
    assert before[0]


def test_a_setting_bounds_what_merged_weights_may_hold(sdxl: Footprint) -> None:
    free = planned(sdxl, 80)
    for given, held in ((6 * GB, 6 * GB), (0, 0), (free.merged + 1, free.merged)):
        assert plan_memory(sdxl, 80 * GB, ROWS, given).merged == held


def test_an_upscaler_which_is_not_let_go_of_is_not_among_what_merged_weights_may_hold(sdxl: Footprint) -> None:
    more = replace(sdxl, optional={**sdxl.optional, "upscaler": GB})
    assert planned(more, 80).resident
    assert planned(more, 80).merged == planned(sdxl, 80).merged - GB


def test_rows_of_a_size_are_what_is_set_aside_and_at_least_one() -> None:
    plan = MemoryPlan(memory=0, resident=False, parts=0, working=1000, merged=0, row_pixel=2)
    assert [plan.rows_at(pixels) for pixels in (1, 100, 250, 251, 500, 501, 5000)] == [500, 5, 2, 1, 1, 1, 1]


def test_the_words_name_what_stays_what_is_brought_and_what_fits(sdxl: Footprint) -> None:
    small, large = ("\n".join(describe(planned(sdxl, gb), sdxl, ROWS)) for gb in (8, 80))
    assert "brought to the device when used: UNet 4.8 GB, text encoders 3.0 GB, VAE 0.2 GB, canny 2.3 GB" in small
    assert "16 at 512 x 512, 12 at 768 x 768, 7 at 1024 x 1024, 3 at 1536 x 1536, 1 at 2048 x 2048" in small
    assert "largest picture whose guided rows and VAE fit: 1024 x 1024" in small
    assert re.search(r"host memory: up to \d\d\.\d GB", small)
    assert "on the device from the start: UNet 4.8 GB" in large
    assert "65.0 GB of merged LoRAs and control networks" in large
    assert "first use: canny 2.3 GB" in large
    assert "largest picture whose guided rows and VAE fit: 2048 x 2048" in large

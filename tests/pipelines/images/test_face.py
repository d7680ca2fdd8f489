"""Faces are found and warped to where FFHQ has them; what shows none is left to the caller."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from pipelines.errors import WeightsFault
from pipelines.images.face import BORDER, TEMPLATE, FaceFinder, align
from tests.detector import DETECTOR, needs_detector

ASTRONAUT = data.astronaut()
EYES = np.array([(204, 104), (247, 104)])  # of the astronaut, by eye


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder(DETECTOR)


@needs_detector
@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_a_face_is_found_at_any_size(finder: FaceFinder, scale: float) -> None:
    seen = cv2.resize(ASTRONAUT, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    landmarks = finder.find(np.asarray(seen, np.uint8))
    assert landmarks is not None
    assert np.abs(landmarks[:2] / scale - EYES).max() < 6


@needs_detector
def test_the_crop_has_the_face_where_the_template_has_it(finder: FaceFinder) -> None:
    crop = finder.crop(ASTRONAUT)
    assert crop is not None
    assert crop.shape == (512, 512, 3)
    again = finder.find(crop)
    assert again is not None
    assert np.abs(again - TEMPLATE).mean() < 15  # two readings of one face, enlarged nearly threefold


@needs_detector
@pytest.mark.parametrize("turned", [1, 2, 4])
def test_a_picture_without_a_face_has_no_crop(finder: FaceFinder, turned: int) -> None:
    for pixels in (data.coffee(), np.zeros((turned, 4000, 3), np.uint8)):
        assert finder.crop(pixels) is None


@needs_detector
def test_threads_do_not_see_one_anothers_pictures(finder: FaceFinder) -> None:
    pictures = [ASTRONAUT, ASTRONAUT[:300, 100:], data.coffee()] * 3
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(finder.crop, pictures))
    for at, crop in enumerate(found):
        assert np.array_equal(crop, found[at % 3]) if at % 3 < 2 else crop is None


def test_landmarks_on_the_template_leave_the_picture_as_it_is() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    aligned = align(pixels, TEMPLATE)
    assert aligned is not None
    assert np.array_equal(aligned, pixels)


def test_a_face_that_is_turned_half_as_large_and_elsewhere_comes_back() -> None:
    smooth = cv2.GaussianBlur(cv2.resize(ASTRONAUT[30:230, 120:320], (512, 512)), (0, 0), 4)
    there = np.array([[0, 0.5, 30], [-0.5, 0, 300]], np.float32)  # a quarter turn, at half its size
    shown = cv2.warpAffine(smooth, there, (400, 350))
    aligned = align(np.asarray(shown, np.uint8), TEMPLATE @ there[:, :2].T + there[:, 2])
    assert aligned is not None
    assert np.abs(aligned.astype(int) - smooth)[8:-8, 8:-8].mean() < 2


def test_what_lies_outside_of_the_picture_is_grey_as_fooocus_has_it() -> None:
    aligned = align(np.zeros((100, 512, 3), np.uint8), TEMPLATE)
    assert aligned is not None
    assert tuple(aligned[-1, 0]) == BORDER
    assert not aligned[0].any()


def test_landmarks_in_one_point_are_no_face() -> None:
    assert align(ASTRONAUT, np.full((5, 2), 100, np.float32)) is None


def test_a_file_that_is_no_detector_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsFault, match=r"face detector .*a\.onnx cannot be read"):
        FaceFinder(tmp_path / "a.onnx")

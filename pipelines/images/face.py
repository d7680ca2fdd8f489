"""The face in a picture, found by OpenCV's YuNet and warped to where FFHQ has faces (fooocus-facts 5.7)."""

import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.errors import WeightsFault
from pipelines.events import Pixels

EDGE = 512  # of a crop
TEMPLATE = np.array(  # in a crop: the eye on its left, the one on its right, the nose, the corners of the mouth alike
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ],
    np.float32,
)
BORDER = (132, 133, 135)  # red, green, blue of what lies outside of the picture
LOOKED_AT = 1024  # the longer side of what is searched: the network overlooks faces of many hundreds of pixels
CONFIDENCE = 0.8  # YuNet gives a frontal face some 0.9
OVERLAP = 0.4  # intersection over union of two boxes that are one face

Landmarks = npt.NDArray[np.float32]


class FaceFinder:
    """Finds faces with the network in an ONNX file. May be used by several threads."""

    def __init__(self, model: Path) -> None:
        """Raises WeightsFault when the file cannot be read as such a network."""
        try:
            self._detector = cv2.FaceDetectorYN.create(str(model), "", (EDGE, EDGE), CONFIDENCE, OVERLAP)
        except cv2.error as fault:
            raise WeightsFault(f"The face detector {model} cannot be read: {fault}") from fault
        self._lock = threading.Lock()  # it holds the size of what it is shown

    def find(self, pixels: Pixels) -> Landmarks | None:
        """The five landmarks, (5, 2) x and y in the order of `TEMPLATE`, of the face that the network is surest of in
        (height, width, 3) uint8 RGB; None where it finds none."""
        height, width = pixels.shape[:2]
        scale = min(1.0, LOOKED_AT / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        searched = pixels if scale == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        with self._lock:
            self._detector.setInputSize(size)
            _, faces = self._detector.detect(cv2.cvtColor(searched, cv2.COLOR_RGB2BGR))
        if faces is None or not len(faces):
            return None
        surest = max(faces, key=lambda face: float(face[-1]))  # x, y, width and height, the landmarks, the confidence
        factor = np.array([width / size[0], height / size[1]], np.float32)
        landmarks: Landmarks = surest[4:14].reshape(5, 2) * factor
        return landmarks

    def crop(self, pixels: Pixels) -> Pixels | None:
        """The surest face in (height, width, 3), as (512, 512, 3); None where there is none."""
        landmarks = self.find(pixels)
        return None if landmarks is None else align(pixels, landmarks)


def align(pixels: Pixels, landmarks: Landmarks) -> Pixels | None:
    """(512, 512, 3): a picture turned, scaled and moved until its landmarks lie on the template's; None where they do
    not make a face."""
    found, _ = cv2.estimateAffinePartial2D(landmarks, TEMPLATE, method=cv2.LMEDS)
    if found is None or not np.isfinite(found).all():
        return None
    warped = cv2.warpAffine(pixels, found, (EDGE, EDGE), borderMode=cv2.BORDER_CONSTANT, borderValue=BORDER)
    return warped.astype(np.uint8)

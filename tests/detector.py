"""Where tests find a face detector: beside the project, which does not contain one."""

import pytest

from tests.pages import ROOT

DETECTOR = ROOT.parent / "shared" / "data" / "yunet_n_dynamic.onnx"
"""YuNet, of libfacedetection.train at 0047ac2 (Apache-2.0)."""

MISSING = (
    "no face detector: put yunet_n_dynamic.onnx of ShiqiYu/libfacedetection.train into ../shared/data and run again"
)
needs_detector = pytest.mark.skipif(not DETECTOR.is_file(), reason=MISSING)

"""Where tests find a face detector: beside the project, which does not contain one."""

import pytest

from tests.pages import ROOT

DETECTOR = ROOT.parent / "shared" / "data" / "yunet_n_dynamic.onnx"
"""YuNet, of libfacedetection.train at 0047ac2 (Apache-2.0)."""

needs_detector = pytest.mark.skipif(not DETECTOR.is_file(), reason="no face detector in ../shared/data")

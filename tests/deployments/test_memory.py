"""What large pictures leave behind in the process of a replica: next to nothing."""

import subprocess
import sys

import pytest

from tests.cluster import ROOT

# in a process of its own, for what the allocator of this one keeps depends on all tests before
DECODING = """
import asyncio, io, sys
import numpy as np
import psutil
from PIL import Image
from deployments.memory import return_large_blocks
from gateway.images.codec import decode_image
from pipelines.images.resize import stretch
from pipelines.spec import Size

def held():
    return psutil.Process().memory_full_info().uss / 2**20

def drawn_from(content):
    stretch(decode_image(content, 40_000_000, "image_url"), Size(width=256, height=256))

async def decode(sizes):
    files = []
    for size in sizes:
        file = io.BytesIO()
        Image.new("RGB", size, "teal").save(file, "JPEG")
        files.append(file.getvalue())
    for _ in range(2):
        await asyncio.gather(*(asyncio.to_thread(drawn_from, content) for content in files))

if sys.argv[1] == "returning":
    return_large_blocks()
asyncio.run(decode([(64, 64)] * 4))
before = held()
asyncio.run(decode([(3000, 2000), (4000, 3000), (2600, 2600), (3500, 1800)]))
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is on Linux")
def test_large_pictures_leave_nothing_behind() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DECODING, "returning"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(ended.stdout) < 16

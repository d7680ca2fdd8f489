"""What large pictures leave behind in the process of a Preprocessor: next to nothing."""

import subprocess
import sys

import pytest

from tests.cluster import ROOT

LEFT_MIB = 24
# in a process of its own, for what an allocator keeps depends on all that the tests before this one did
PREPARING = """
import asyncio, io
from pathlib import Path
import psutil
from PIL import Image
from deployments.preprocessor import Preprocessor
from gateway.images.codec import decode_image
from pipelines.spec import Size, Spec, Structure
from tests.deployments.fakes import FakeCatalogue, FakeFinder

class Pictures:
    async def fetch(self, source, field):
        width, height = map(int, source.split("x"))
        file = io.BytesIO()
        Image.new("RGB", (width, height), "teal").save(file, "JPEG")
        return file.getvalue()

    async def decode(self, content, field):
        return await asyncio.to_thread(decode_image, content, 40_000_000, field)

async def prepare(sources):
    for _ in range(2):
        await asyncio.gather(*(preprocessor.prepare(spec(source)) for source in sources))

def spec(source):
    structure = Structure(kind="PyraCanny", source=source)
    return Spec(prompt="x", size=Size(width=256, height=256), seeds=(1,), steps=4, sampler="lcm", schedule="lcm",
                pictures=(structure,))

def held():
    return psutil.Process().memory_full_info().uss / 2**20

async def left():
    await prepare(["300x200"] * 4)
    before = held()
    await prepare(["3000x2000", "4000x3000", "2600x2600", "3500x1800"])
    return held() - before

preprocessor = Preprocessor(Pictures, FakeCatalogue, FakeFinder)
print("left:", asyncio.run(left()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator of other systems is another one")
def test_large_pictures_leave_nothing_behind() -> None:
    ended = subprocess.run([sys.executable, "-c", PREPARING], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    left = float(ended.stdout.rpartition("left:")[2])
    assert left < LEFT_MIB

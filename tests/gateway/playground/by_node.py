"""Modules of the pages that need no page, run by node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.playground.assets import FOLDER


def by_node(program: str, given: Any, *named: str) -> Any:
    """What a program of this folder makes of what is given, as it is where that is bytes and else as JSON. Its last
    argument is the folder of the modules."""
    if (node := shutil.which("node")) is None:
        pytest.skip("there is no node: on Debian it is the package nodejs")
    command = [node, str(Path(__file__).with_name(program)), *named, str(FOLDER)]
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    done = subprocess.run(command, input=content, capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)

"""A published pickle made a safetensors file, in a child process that may read tensors and nothing else.

Child: `python -m models.converting PICKLE SAFETENSORS BYTES`. It reads `weights_only`, under a limit of memory.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from models.errors import ToolFault

TIME_LIMIT_S = 900.0
MEMORY, TIMES = 2**30, 4  # bytes of addresses beyond those of torch itself, and how many times the pickle besides
LEVELS, RANGE = ".levels", ".range"  # as pipelines.weights.inpaint reads a patch
ROOT = Path(__file__).resolve().parent.parent


def convert(
    pickle: Path,
    target: Path,
    *,
    name: str | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    memory: int | None = None,
) -> None:
    """Write `target` from `pickle`, which stays. name: what faults call it, its own where there is none. memory: bytes
    of addresses that the child may have beyond what it has when torch is loaded.

    Nested dicts become names with dots; of an inpaint patch each (levels, least, most) two tensors. Raises ToolFault,
    and leaves no target, when the pickle holds anything but tensors or takes too much memory or time.
    """
    aside = target.with_name(f".{target.name}.new").resolve()
    limit = memory if memory is not None else MEMORY + TIMES * pickle.stat().st_size
    command = [sys.executable, "-m", "models.converting", str(pickle.resolve()), str(aside), str(limit)]
    try:
        ran = subprocess.run(  # noqa: S603  # our own interpreter and module
            command,
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=time_limit_s,
            check=False,
        )
        if ran.returncode == -signal.SIGINT:  # the terminal tells the child too
            raise KeyboardInterrupt
        if ran.returncode != 0:
            lines = ran.stderr.decode(errors="replace").strip().splitlines()
            why = lines[-1][:300] if lines else f"the child ended with {ran.returncode}"
            raise ToolFault(f"{name or pickle.name} cannot be converted: {why}.")
        shutil.copymode(pickle, aside)  # safetensors makes its files for their owner alone
        os.replace(aside, target)
    except subprocess.TimeoutExpired:
        raise ToolFault(f"{name or pickle.name} cannot be converted: it took more than {time_limit_s:g} s.") from None
    finally:
        aside.unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    """No secret of the parent's: neither tokens nor keys of buckets."""
    kept = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "OMP_NUM_THREADS", "SYSTEMROOT")
    return {name: os.environ[name] for name in kept if name in os.environ}


def main() -> None:
    pickle, target, memory = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    try:
        _convert(pickle, target, memory)
    except MemoryError:
        sys.exit("it needs more memory than it may have")
    except UnpicklingError:  # torch's own words advise to unpickle it without a guard
        sys.exit("it holds more than tensors, or is damaged")
    except Exception as fault:  # whatever a broken or hostile file makes torch say: its first line
        sys.exit((str(fault) or type(fault).__name__).strip().splitlines()[0].rstrip("."))


def _limit(memory: int) -> None:
    """Let this process have so many bytes of addresses more than it has, and no core file."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])  # a build for CUDA maps gigabytes, one for CPUs little
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _convert(pickle: Path, target: Path, memory: int) -> None:
    import torch
    from safetensors.torch import save_file
    from torch import Tensor

    _limit(memory)

    def flat(content: Any, name: str) -> Iterator[tuple[str, Tensor]]:
        if isinstance(content, Tensor):
            yield name, content.detach().clone(memory_format=torch.contiguous_format)
        elif isinstance(content, dict):
            for key, value in content.items():
                if not isinstance(key, str):
                    raise ValueError(f"it has a name that is no text: {key!r}")
                yield from flat(value, f"{name}.{key}" if name else key)
        elif isinstance(content, tuple | list) and len(content) == 3 and _is_levels(content[0]):
            yield name + LEVELS, content[0].clone(memory_format=torch.contiguous_format)
            yield name + RANGE, torch.tensor([float(content[1]), float(content[2])])
        else:
            raise ValueError(f"{name or 'it'} is a {type(content).__name__}, and no tensor")

    def _is_levels(content: Any) -> bool:
        return isinstance(content, Tensor) and content.dtype == torch.uint8

    loaded = torch.load(pickle, map_location="cpu", weights_only=True)
    tensors = dict(flat(loaded, ""))
    if not tensors or "" in tensors:
        raise ValueError("it holds no named tensors")
    save_file(tensors, target)


if __name__ == "__main__":
    main()

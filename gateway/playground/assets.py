"""The modules and styles of the pages, as they lie beside this file."""

import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

FOLDER = Path(__file__).parent / "static"
TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
_IMPORTED = re.compile(r'^import [^;]*?"\./([^"]+)";$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, as it is and as it travels."""

    content: bytes
    content_type: str
    packed: bytes

    @classmethod
    def read(cls, path: Path) -> "Asset":
        content = path.read_bytes()
        return cls(content, TYPES[path.suffix], gzip.compress(content, mtime=0))


@dataclass(frozen=True, slots=True)
class Assets:
    """Files by their names below the folder. version: changes with any of them, so that each may be kept for ever."""

    files: Mapping[str, Asset]
    version: str

    @classmethod
    def read(cls, folder: Path = FOLDER) -> "Assets":
        """What the folder has; other kinds of files than those of `TYPES` are no part of it."""
        files = {path.name: Asset.read(path) for path in sorted(folder.iterdir()) if path.suffix in TYPES}
        digest = hashlib.sha256()
        for name, asset in files.items():
            digest.update(f"{name} {len(asset.content)}\n".encode())
            digest.update(asset.content)
        return cls(MappingProxyType(files), digest.hexdigest()[:16])

    def address(self, name: str) -> str:
        return f"/static/{self.version}/{name}"

    def needed(self, *modules: str) -> Sequence[str]:
        """These and all that they import, each once."""
        found, rest = dict[str, None](), [*modules]
        while rest:
            name = rest.pop()
            if name in self.files and name not in found:
                found[name] = None
                rest += _IMPORTED.findall(self.files[name].content.decode())
        return [*found]

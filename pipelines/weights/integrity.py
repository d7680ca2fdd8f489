"""Whether a family's files are those that came: their sizes, headers and, where asked or in doubt, all their bytes."""

import hashlib
from pathlib import Path

from pipelines.catalogue import Catalogue, FileRecord
from pipelines.errors import WeightsFault
from pipelines.weights.header import parse_header

CHUNK = 2**22


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def header_digest(path: Path) -> str:
    """sha256 of a safetensors file's header, in hex: names, dtypes, shapes and places of its tensors.

    Raises ValueError, in words that follow the file's name, where the file has none or ends elsewhere than its last
    tensor does; OSError where it cannot be read.
    """
    return parse_header(path).digest


def fault_of(path: Path, record: FileRecord, *, all_bytes: bool) -> str | None:
    """What is wrong with a file that has a record, in words that follow its name; None where nothing is.

    All bytes are read too when the file was written to since it came.
    """
    try:
        found = path.stat()
        if found.st_size != record.size:
            return f"has {found.st_size:,} bytes and had {record.size:,} when it came"
        if record.header is not None and header_digest(path) != record.header:
            return "has another header than when it came"
        if (all_bytes or found.st_mtime_ns != record.modified_ns) and sha256_of(path) != record.sha256:
            return "has other bytes than when it came"
    except FileNotFoundError:
        return "is missing"
    except OSError as fault:
        return f"cannot be read ({fault.strerror})"
    except ValueError as fault:
        return str(fault)
    return None


def check_files(catalogue: Catalogue, all_bytes: bool, within: Path | None = None) -> None:
    """Hold each file that has a record to it. all_bytes: read every byte, and not only of files written to since.
    within: only the files of this part of the family.

    Raises WeightsFault, which names the file and the command that shows all there is to say, at the first that differs.
    """
    for path, record in catalogue.file.files.items():
        if within is not None and not (catalogue.root / path).resolve().is_relative_to(within):
            continue
        wrong = fault_of(catalogue.root / path, record, all_bytes=all_bytes)
        if wrong is not None:
            raise WeightsFault(
                f"The file {path} of the family {catalogue.name} {wrong}: "
                f"`python -m models verify {catalogue.root}` checks all of them, a `pull` brings it again."
            )

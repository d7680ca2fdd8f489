"""An operator's folders of texts: which files of them are read, and how."""

from collections.abc import Iterator
from pathlib import Path


class FolderFault(ValueError):
    """A folder or a file of it cannot be used. The message names it."""


MAX_BYTES = 16 * 2**20  # of one file; Fooocus' longest has some hundred thousand


def text_files(folder: Path, suffix: str) -> Iterator[tuple[Path, str]]:
    """The files with this suffix in a folder and the folders in it, by their paths, and their texts.

    Case counts only between paths that are alike without it; so machines with equal folders read them in one order,
    whatever their disks list first. UTF-8. A link that leads out of the folder is no file of it.

    Raises FolderFault for a folder that is not there, a file of more than 16 MiB and one that is not text, and
    OSError for one that cannot be read.
    """
    if not folder.is_dir():
        raise FolderFault(f"There is no folder {folder}.")
    inside = folder.resolve()
    for path in sorted(folder.rglob(f"*{suffix}"), key=lambda path: (str(path).casefold(), str(path))):
        if not path.is_file() or not path.resolve().is_relative_to(inside):
            continue
        if path.stat().st_size > MAX_BYTES:
            raise FolderFault(f"{path} is too large: it has more than {MAX_BYTES} bytes.")
        try:
            yield path, path.read_text("utf-8-sig")
        except UnicodeDecodeError as fault:
            raise FolderFault(f"{path} is not UTF-8.") from fault

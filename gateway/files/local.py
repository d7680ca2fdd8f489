"""The files store in a folder of this machine."""

from pathlib import Path

from gateway.files.folder import FolderBlobs
from gateway.files.store import FileStore


class LocalFiles(FileStore):
    """`gateway.files.base.Files` under `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FolderBlobs(folder))

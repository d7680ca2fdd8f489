"""Fetching: files brought aside in a family's folder, held to what is known of them, until each is whole."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from models.catalogue import Entry
from models.converting import convert
from models.errors import ToolFault
from models.families import ASIDE, families, gigabytes, read_family, require_space, write_whole
from models.lock import Pin
from models.sources import Found, Source, Stopped
from pipelines.catalogue import FileRecord
from pipelines.weights.integrity import fault_of, header_digest, sha256_of

AT_ONCE = 4  # files
Say = Callable[[str], None]


@dataclass(frozen=True)
class Item:
    """A file to bring. place: in the family's folder. key: names what is aside of it, by its source and its bytes."""

    entry: Entry
    place: str
    found: Found
    pin: Pin | None

    @property
    def key(self) -> str:
        told = f"{self.found} {self.pin}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def sha256(self) -> str | None:
        """What its bytes must be, where anybody says so."""
        stated = self.pin.sha256 if self.pin else self.entry.sha256
        return stated or self.found.sha256


def find_item(entry: Entry, place: str, source: Source, pin: Pin | None) -> Item:
    """What the source has of an entry. Raises ToolFault where that is not what the lock or the catalogue says."""
    item = Item(entry, place, source.find(entry, pin.revision if pin else entry.revision), pin)
    if pin is not None and item.found.size != pin.size:
        raise ToolFault(f"{entry.file} has {item.found.size:,} bytes, and the lock says {pin.size:,}: not fetched.")
    if item.found.sha256 not in (None, item.sha256):
        raise ToolFault(_unlike(item, item.found.sha256 or ""))
    return item


def check_space(folder: Path, items: Sequence[Item]) -> None:
    """Hold what is to come against what is free: a pickle needs its room twice until it is converted."""
    need = 0
    for item in items:
        if _twin(folder, item) is not None or _waiting(folder, item) is not None:
            continue
        part = _part(folder, item)
        times = 2 if item.entry.format == "pickle" else 1
        need += times * item.found.size - (part.stat().st_size if part.exists() else 0)
    require_space(folder, need, "fetched")


def bring(folder: Path, items: Sequence[Item], source: Source, say: Say) -> dict[str, FileRecord]:
    """Have every item aside, whole. The first fault stops the others; what they have stays for the next time."""
    stop, converting = threading.Event(), threading.Lock()

    def brought(item: Item) -> FileRecord:
        record = _waiting(folder, item) or _linked(folder, item)
        if record is None:
            say(f"{item.entry.name}: {gigabytes(item.found.size)} from {item.found.origin}")
            record = _fetched(folder, item, source, stop, converting)
        write_whole(_sidecar(folder, item), record.model_dump_json())
        return record

    threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pull")
    running = {threads.submit(brought, item): item for item in items}
    try:
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
    except KeyboardInterrupt:  # not to wait for a server that says nothing
        stop.set()
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    if any(not each.done() or each.exception() for each in running):
        stop.set()
    threads.shutdown(cancel_futures=True)
    faults = [fault for each in done if (fault := each.exception()) is not None and not isinstance(fault, Stopped)]
    if faults:
        raise _told(faults[0], folder)
    return {item.place: each.result() for each, item in running.items()}


def put_in_place(folder: Path, item: Item) -> None:
    """Move an item that is whole to its place, where an earlier call may have put it."""
    target = folder / item.place
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = _whole(folder, item)
    if whole.exists():
        os.replace(whole, target)


def forget(folder: Path, item: Item) -> None:
    """Keep no note of an item that `family.json` has."""
    _sidecar(folder, item).unlink()


def _told(fault: BaseException, folder: Path) -> BaseException:
    if not isinstance(fault, OSError):
        return fault
    if fault.errno == errno.ENOSPC:
        return ToolFault(f"The disk of {folder} is full; the same command goes on when there is room.")
    why = str(fault).splitlines()[0].rstrip(".")
    return ToolFault(f"A file cannot be brought to {folder}: {why}. The same command goes on.")


def _fetched(folder: Path, item: Item, source: Source, stop: threading.Event, converting: threading.Lock) -> FileRecord:
    part, whole = _part(folder, item), _whole(folder, item)
    source.fetch(item.entry, item.found, part, stop)
    size = part.stat().st_size
    if size != item.found.size:
        part.unlink()
        raise ToolFault(f"{item.entry.file} came with {size:,} bytes instead of {item.found.size:,}: it is not taken.")
    sha256 = sha256_of(part)
    if item.sha256 not in (None, sha256):
        part.unlink()
        raise ToolFault(_unlike(item, sha256))
    if item.entry.format != "pickle":
        header = _header(item, part)
        os.replace(part, whole)
        return record_of(whole, sha256, header, item.found.origin)
    try:
        with converting:  # one at a time: each needs the memory of its file several times
            if stop.is_set():
                raise Stopped
            convert(part, whole, name=item.entry.file)
    except ToolFault:
        part.unlink()
        raise
    record = record_of(whole, sha256_of(whole), header_digest(whole), item.found.origin)
    part.unlink()
    return record.model_copy(update={"fetched_size": size, "fetched_sha256": sha256})


def _header(item: Item, part: Path) -> str | None:
    if item.entry.format != "safetensors":
        return None
    try:
        return header_digest(part)
    except ValueError as fault:
        part.unlink()
        raise ToolFault(f"{item.entry.file} from {item.found.origin} is damaged: it {fault}.") from None


def record_of(path: Path, sha256: str, header: str | None, origin: str) -> FileRecord:
    """The record of a file that is on the disk when this returns."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        found = os.fstat(file.fileno())
    return FileRecord(size=found.st_size, sha256=sha256, header=header, modified_ns=found.st_mtime_ns, origin=origin)


def _part(folder: Path, item: Item) -> Path:
    return folder / ASIDE / f"{item.key}.part"


def _whole(folder: Path, item: Item) -> Path:
    return folder / ASIDE / f"{item.key}.whole"


def _sidecar(folder: Path, item: Item) -> Path:
    return folder / ASIDE / f"{item.key}.json"


def _waiting(folder: Path, item: Item) -> FileRecord | None:
    """The record of an item that an earlier call has brought: it waits aside, or is in place but not in family.json."""
    try:
        record = FileRecord.model_validate_json(_sidecar(folder, item).read_bytes())
    except (OSError, ValidationError):
        return None
    places = (_whole(folder, item), folder / item.place)
    return record if any(fault_of(path, record, all_bytes=False) is None for path in places) else None


def _twin(folder: Path, item: Item) -> tuple[Path, FileRecord] | None:
    """The same file in another family: of the same origin, and of bytes that the source states."""
    if item.sha256 is None:
        return None
    for other in families():
        if other.resolve() == folder.resolve():
            continue
        try:
            files = read_family(other).files
        except ToolFault:  # its own pull, or a check of it, says so
            continue
        for path, record in files.items():
            same = record.origin == item.found.origin and (record.fetched_sha256 or record.sha256) == item.sha256
            if same and fault_of(other / path, record, all_bytes=False) is None:
                return other / path, record
    return None


def _linked(folder: Path, item: Item) -> FileRecord | None:
    twin = _twin(folder, item)
    if twin is None or fault_of(*twin, all_bytes=True) is not None:
        return None
    whole = _whole(folder, item)
    whole.unlink(missing_ok=True)
    try:
        os.link(twin[0], whole)
    except OSError:  # another disk, or one that cannot
        return None
    return twin[1]


def _unlike(item: Item, found: str) -> str:
    return f"{item.entry.file} has the sha256 {found} and should have {item.sha256}: it is not taken."

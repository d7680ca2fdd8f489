"""Pulling: files brought from a source, held to what is known of them, and a family made of them when all are whole."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from models.catalogue import Entry
from models.converting import convert
from models.errors import ToolFault
from models.families import ASIDE, delete, families, read_family, version_of, write_family, write_whole
from models.lock import Pin
from models.published import CONFIGS
from models.sources import Found, Source, Stopped
from pipelines.catalogue import FILE, FamilyFile, FileRecord, LoraEntry
from pipelines.weights.integrity import fault_of, header_digest, sha256_of

AT_ONCE = 4  # files
BESIDE = "no document states a repository of it"
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Item:
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


def pull(
    entries: Sequence[Entry],
    folder: Path,
    source: Source,
    *,
    lock: Mapping[str, Pin] | None = None,
    accept_unpinned: bool = False,
    say: Say = print,
) -> FamilyFile:
    """Bring entries into the family in `folder`, which is made when a checkpoint is among them.

    Nothing is in place, and `family.json` as before, until every file is whole and is what it must be. What is fetched
    waits aside, so the same call goes on where another ended. Raises ToolFault.
    """
    family = read_family(folder) if (folder / FILE).exists() else None
    _hold(entries, folder, family, lock, accept_unpinned)
    wanted = [(entry, place) for whole in entries for entry, place in _files_of(whole)]
    with _alone(folder):
        here = family.files if family else {}
        absent = [
            (entry, place) for entry, place in wanted if not _is_here(folder, place, here.get(place), lock, entry)
        ]
        items = [_find(entry, place, source, lock) for entry, place in absent]
        for item in items:
            if item.entry.size not in (None, item.found.size):
                say(f"{item.entry.file} has {item.found.size:,} bytes; {item.entry.size:,} are documented.")
        _check_space(folder, items)
        records = _bring(folder, items, source, say) if items else {}
        return _commit(folder, family, entries, items, records)


def _hold(
    entries: Sequence[Entry],
    folder: Path,
    family: FamilyFile | None,
    lock: Mapping[str, Pin] | None,
    accept_unpinned: bool,
) -> None:
    """Refuse what can be refused before anything is asked of the source."""
    for entry in entries:
        if entry.use is None:
            raise ToolFault(f"Nothing here uses {entry.file}, so it is not pulled.")
        if lock is not None and entry.name not in lock:
            raise ToolFault(f"The lock does not hold {entry.name}: pull without --lock, then `python -m models pin`.")
    checkpoints = {entry.place for entry in entries if entry.use == "checkpoint"}
    if family is not None:
        checkpoints.add(family.checkpoint)
    if not checkpoints:
        raise ToolFault(f"There is no family in {folder}: pull a preset or a checkpoint first.")
    if len(checkpoints) > 1:
        raise ToolFault(f"A family has one checkpoint, and these are {len(checkpoints)}: {', '.join(checkpoints)}.")
    places = [entry.value for entry in entries if entry.use == "part"]
    parts = [entry.part for entry in entries if entry.use == "part"]
    if len(set(parts)) < len(places):
        raise ToolFault("Two of these are the same part of a family: pull one of them.")
    risky = [entry.name for entry in entries if entry.format == "pickle" and not entry.pinned]
    if risky and lock is None and not accept_unpinned:
        raise ToolFault(
            f"{', '.join(risky)}: published as pickles of which no document states a hash. They are converted in a "
            "guarded process and deleted; add --accept-unpinned if you trust their source."
        )


def _files_of(entry: Entry) -> Iterator[tuple[Entry, str]]:
    """The entry's own file, each with its place, after those that must lie beside it."""
    for name in entry.beside:
        path = f"{entry.folder}/{name}"
        yield (
            replace(entry, file=name, repository=None, path=path, elsewhere=BESIDE, format="text", size=None),
            path,
        )
    yield entry, entry.place


def _is_here(folder: Path, place: str, record: FileRecord | None, lock: Mapping[str, Pin] | None, entry: Entry) -> bool:
    if record is None or fault_of(folder / place, record, all_bytes=True) is not None:
        return False
    pin = _pin(entry, lock)
    return pin is None or pin.sha256 == (record.fetched_sha256 or record.sha256)


def _pin(entry: Entry, lock: Mapping[str, Pin] | None) -> Pin | None:
    return lock.get(entry.name) if lock and entry.format != "text" else None


def _find(entry: Entry, place: str, source: Source, lock: Mapping[str, Pin] | None) -> _Item:
    pin = _pin(entry, lock)
    item = _Item(entry, place, source.find(entry, pin.revision if pin else entry.revision), pin)
    if pin is not None and item.found.size != pin.size:
        raise ToolFault(f"{entry.file} has {item.found.size:,} bytes, and the lock says {pin.size:,}: not fetched.")
    if item.found.sha256 not in (None, item.sha256):
        raise ToolFault(_unlike(item, item.found.sha256 or ""))
    return item


def _unlike(item: _Item, found: str) -> str:
    return f"{item.entry.file} has the sha256 {found} and should have {item.sha256}: it is not taken."


def _check_space(folder: Path, items: Sequence[_Item]) -> None:
    """Hold what is to come against what is free: a pickle needs its room twice until it is converted."""
    need = 0
    for item in items:
        if _twin(folder, item) is not None or _waiting(folder, item) is not None:
            continue
        part = _part(folder, item)
        times = 2 if item.entry.format == "pickle" else 1
        need += times * item.found.size - (part.stat().st_size if part.exists() else 0)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        raise ToolFault(f"The disk of {folder} has {_gb(free)} free, and {_gb(need)} are needed: nothing is fetched.")


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from pulling into the same folder, and leave no folder in which nothing is."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    aside = folder / ASIDE
    try:
        aside.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(aside, os.O_RDONLY)
    except OSError as fault:
        raise ToolFault(f"{folder} cannot be written to: {fault.strerror}.") from fault
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ToolFault(f"Another pull into {folder} is running.") from None
        yield
    finally:
        os.close(descriptor)
        for path in (aside, *new):
            with suppress(OSError):
                path.rmdir()  # only when empty


def _bring(folder: Path, items: Sequence[_Item], source: Source, say: Say) -> dict[str, FileRecord]:
    """Have every item aside, whole. The first fault stops the others; what they have stays for the next time."""
    stop, converting = threading.Event(), threading.Lock()

    def bring(item: _Item) -> FileRecord:
        record = _waiting(folder, item) or _linked(folder, item)
        if record is None:
            say(f"{item.entry.name}: {_gb(item.found.size)} from {item.found.origin}")
            record = _fetched(folder, item, source, stop, converting)
        write_whole(_sidecar(folder, item), record.model_dump_json())
        return record

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pull") as threads:
        running = {threads.submit(bring, item): item for item in items}
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
        finally:  # the user's Ctrl-C comes here too
            if any(not each.done() or each.exception() for each in running):
                stop.set()
            threads.shutdown(cancel_futures=True)
    faults = [fault for each in done if (fault := each.exception()) is not None and not isinstance(fault, Stopped)]
    if faults:
        raise _told(faults[0], folder)
    return {item.place: each.result() for each, item in running.items()}


def _told(fault: BaseException, folder: Path) -> BaseException:
    if not isinstance(fault, OSError):
        return fault
    if fault.errno == errno.ENOSPC:
        return ToolFault(f"The disk of {folder} is full; the same command goes on when there is room.")
    why = str(fault).splitlines()[0].rstrip(".")
    return ToolFault(f"A file cannot be brought to {folder}: {why}. The same command goes on.")


def _fetched(
    folder: Path, item: _Item, source: Source, stop: threading.Event, converting: threading.Lock
) -> FileRecord:
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
        return _record(whole, sha256, header, item.found.origin)
    try:
        with converting:  # one at a time: each needs the memory of its file several times
            if stop.is_set():
                raise Stopped
            convert(part, whole)
    except ToolFault:
        part.unlink()
        raise
    record = _record(whole, sha256_of(whole), header_digest(whole), item.found.origin)
    part.unlink()
    return record.model_copy(update={"fetched_size": size, "fetched_sha256": sha256})


def _header(item: _Item, part: Path) -> str | None:
    if item.entry.format != "safetensors":
        return None
    try:
        return header_digest(part)
    except ValueError as fault:
        part.unlink()
        raise ToolFault(f"{item.entry.file} from {item.found.origin} is damaged: {fault}.") from None


def _record(path: Path, sha256: str, header: str | None, origin: str) -> FileRecord:
    found = path.stat()
    return FileRecord(size=found.st_size, sha256=sha256, header=header, modified_ns=found.st_mtime_ns, origin=origin)


def _part(folder: Path, item: _Item) -> Path:
    return folder / ASIDE / f"{item.key}.part"


def _whole(folder: Path, item: _Item) -> Path:
    return folder / ASIDE / f"{item.key}.whole"


def _sidecar(folder: Path, item: _Item) -> Path:
    return folder / ASIDE / f"{item.key}.json"


def _waiting(folder: Path, item: _Item) -> FileRecord | None:
    """The record of an item that an earlier call has brought: it waits aside, or is in place but not in family.json."""
    try:
        record = FileRecord.model_validate_json(_sidecar(folder, item).read_bytes())
    except (OSError, ValidationError):
        return None
    places = (_whole(folder, item), folder / item.place)
    return record if any(fault_of(path, record, all_bytes=False) is None for path in places) else None


def _twin(folder: Path, item: _Item) -> tuple[Path, FileRecord] | None:
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


def _linked(folder: Path, item: _Item) -> FileRecord | None:
    twin = _twin(folder, item)
    if twin is None:
        return None
    whole = _whole(folder, item)
    whole.unlink(missing_ok=True)
    try:
        os.link(twin[0], whole)
    except OSError:  # another disk, or one that cannot
        return None
    return twin[1]


def _commit(
    folder: Path,
    family: FamilyFile | None,
    entries: Sequence[Entry],
    items: Sequence[_Item],
    records: Mapping[str, FileRecord],
) -> FamilyFile:
    """Put in place what waits aside, then say so in `family.json`."""
    for item in items:
        target = folder / item.place
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # in place since an earlier call
            os.replace(_whole(folder, item), target)
    parts = dict(family.parts) if family else {}
    new = {entry.part: entry.value for entry in entries if entry.part}
    old = [parts[part] for part, value in new.items() if parts.get(part, value) != value]
    files = {path: record for path, record in (family.files if family else {}).items() if path not in old}
    files.update(records)
    for entry in entries:
        for name, content in (CONFIGS.get(entry.part, {}) if entry.part else {}).items():
            path = folder / entry.folder / name
            write_whole(path, json.dumps(dict(content), indent=2, default=dict) + "\n")
            files[f"{entry.folder}/{name}"] = _record(path, sha256_of(path), None, "")
    made = FamilyFile.model_validate(
        {
            **(family.model_dump() if family else {"name": folder.resolve().name}),
            "version": version_of(files),
            "checkpoint": family.checkpoint if family else _checkpoint(entries),
            "parts": {**parts, **new},
            "loras": {**(family.loras if family else {}), **{e.file: _lora(e) for e in entries if e.use == "lora"}},
            "files": files,
        }
    )
    write_family(folder, made)
    for item in items:
        _sidecar(folder, item).unlink()
    for replaced in old:
        delete(folder, replaced)
    return made


def _checkpoint(entries: Sequence[Entry]) -> str:
    return next(entry.place for entry in entries if entry.use == "checkpoint")


def _lora(entry: Entry) -> LoraEntry:
    return LoraEntry(file=entry.place, addresses=(entry.address,) if entry.address else ())

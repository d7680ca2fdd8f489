"""Pulling: a family made of files that a source has, when all of them are whole."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from models.catalogue import Entry
from models.errors import ToolFault
from models.families import ASIDE, delete, read_family, version_of, write_family, write_whole
from models.fetching import Item, Say, bring, check_space, find_item, forget, put_in_place, record_of
from models.lock import Pin
from models.published import CONFIGS
from models.sources import Source
from pipelines.catalogue import FILE, FamilyFile, FileRecord, LoraEntry
from pipelines.weights.integrity import fault_of, sha256_of

BESIDE = "no document states a repository of it"


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
        items = [find_item(entry, place, source, _pin(entry, lock)) for entry, place in absent]
        for item in items:
            if item.entry.size not in (None, item.found.size):
                say(f"{item.entry.file} has {item.found.size:,} bytes; {item.entry.size:,} are documented.")
        check_space(folder, items)
        records = bring(folder, items, source, say) if items else {}
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
    risky = [entry.name for entry in entries if entry.needs_trust]
    if risky and lock is None and not accept_unpinned:
        raise ToolFault(
            f"{', '.join(risky)}: published as pickles of which no document states a hash. They are converted in a "
            "guarded process and deleted; add --accept-unpinned if you trust their source (to `make pull` "
            "ARGS=--accept-unpinned)."
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


def _commit(
    folder: Path,
    family: FamilyFile | None,
    entries: Sequence[Entry],
    items: Sequence[Item],
    records: Mapping[str, FileRecord],
) -> FamilyFile:
    """Put in place what waits aside, then say so in `family.json`."""
    for item in items:
        put_in_place(folder, item)
    parts = dict(family.parts) if family else {}
    new = {entry.part: entry.value for entry in entries if entry.part}
    old = [parts[part] for part, value in new.items() if parts.get(part, value) != value]
    files = {path: record for path, record in (family.files if family else {}).items() if path not in old}
    files.update(records)
    for entry in entries:
        for name, content in (CONFIGS.get(entry.part, {}) if entry.part else {}).items():
            path = folder / entry.folder / name
            write_whole(path, json.dumps(dict(content), indent=2, default=dict) + "\n")
            files[f"{entry.folder}/{name}"] = record_of(path, sha256_of(path), None, "")
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
        forget(folder, item)
    for replaced in old:
        delete(folder, replaced)
    return made


def _checkpoint(entries: Sequence[Entry]) -> str:
    return next(entry.place for entry in entries if entry.use == "checkpoint")


def _lora(entry: Entry) -> LoraEntry:
    return LoraEntry(file=entry.place, addresses=(entry.address,) if entry.address else ())

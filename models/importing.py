"""`python -m models import`: a user's own checkpoint made a family, a LoRA or a refiner brought to one.

Everything is made in a hidden folder beside its place and moved there at the end, so a refusal leaves nothing behind.
"""

import argparse
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from models.errors import ToolFault
from models.families import read_family, require_space, version_of, write_family
from pipelines.catalogue import FILE, Catalogue, FamilyFile, FileRecord, LoraEntry, family_folder
from pipelines.errors import InputFault, WeightsFault
from pipelines.parts import CONFIGS, Prediction
from pipelines.weights.header import read_header
from pipelines.weights.integrity import sha256_of
from pipelines.weights.recognition import recognise

if TYPE_CHECKING:
    from models.assembling import Assembled

SDXL = CONFIGS / "sdxl_base"
CONFIG, LORAS, REFINER = "config", "loras", "refiner"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SUFFIX = ".safetensors"


def add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `import`; what it parses has `run`, which takes the arguments and answers the exit code."""
    parser = commands.add_parser("import", help="make a family of your own checkpoint, or bring a LoRA to a family")
    parser.add_argument("source", type=Path, metavar="FILE_OR_FOLDER", help="safetensors, or a diffusers folder")
    parser.add_argument("--name", help="of the family that is made; the source's where it is not given")
    parser.add_argument("--vae", type=Path, metavar="FILE", help="a VAE instead of the checkpoint's own")
    parser.add_argument("--base", metavar="FAMILY", help="the family whose text encoders a UNet alone is given")
    parser.add_argument("--config", type=Path, metavar="FOLDER", help="configurations; SDXL's where it is not given")
    parser.add_argument("--prediction", choices=get_args(Prediction), help="what the UNet predicts, if no file says it")
    parser.add_argument("--zero-terminal-snr", action="store_true", help="trained so, if no file says it")
    parser.add_argument(
        "--family", metavar="FAMILY", help="bring a LoRA, or a refiner (SDXL's or Stable Diffusion 1.5), to this family"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    """One sentence is printed. Raises ToolFault, in one sentence too."""
    if not args.source.exists():
        raise ToolFault(f"There is no {args.source}.")
    if not (args.source.is_file() or args.source.is_dir()):
        raise ToolFault(f"{args.source} is neither a file nor a folder.")
    if args.vae is not None and not args.vae.is_file():
        raise ToolFault(f"--vae takes a file, and {args.vae} is none.")
    if args.config is not None and not args.config.is_dir():
        raise ToolFault(f"--config takes a folder of configurations, and {args.config} is no folder.")
    try:
        if args.family is not None:
            if any((args.name, args.vae, args.base, args.config, args.prediction, args.zero_terminal_snr)):
                raise ToolFault("--family brings a file to a family as it is: no other option goes with it.")
            print(bring(args.source, family_folder(args.family)))
        else:
            print(_import(args))
    except (WeightsFault, InputFault) as fault:
        raise ToolFault(str(fault)) from fault
    except OSError as fault:
        raise ToolFault(f"The import cannot be written: {fault.strerror or fault}.") from fault
    return 0


def _import(args: argparse.Namespace) -> str:
    from models.assembling import Pieces, assemble  # torch and the models, which no other command needs

    name = args.name or _name_of(args.source)
    if not NAME.fullmatch(name):
        raise ToolFault(f"{name!r} is no name for a family: letters, digits, dots, dashes and underscores, please.")
    base = None if args.base is None else Catalogue.open(family_folder(args.base))
    own = args.config or (None if base is None or base.file.config is None else base.config)
    found = assemble(args.source, Pieces(own or SDXL, args.vae, base))
    prediction: Prediction = args.prediction or found.prediction
    zero_snr = args.zero_terminal_snr or found.zero_terminal_snr
    folder = family_folder(name)
    make_family(folder, args.source, replace(found, prediction=prediction, zero_terminal_snr=zero_snr), own)
    served = f"as {prediction}" + (" with zero terminal SNR" if zero_snr else "")
    return f"{args.source.name} is {found.told}; it is the family {name} now, in {folder}, served {served}."


def make_family(folder: Path, source: Path, found: "Assembled", own: Path | None) -> None:
    """Make a family of a checkpoint. own: configurations to take along, None for SDXL's.

    Raises ToolFault where there is a family already, WeightsFault when the checkpoint does not fit the configurations.
    """
    from models.assembling import check

    if folder.exists():
        raise ToolFault(f"There is {folder} already: give another --name, or remove it first.")
    with _aside(folder) as new:
        checkpoint = new / (source.name if found.tensors is None and source.suffix == SUFFIX else folder.name + SUFFIX)
        if found.tensors is None:
            check(source, own or SDXL)
            _place(source, checkpoint)
        else:
            require_space(folder, found.bytes, "imported")
            found.write(checkpoint)
            check(checkpoint, own or SDXL)
        recognise(read_header(checkpoint)).require_training(source.name, found.prediction, found.zero_terminal_snr)
        if own is not None:
            _copy_config(own, new / CONFIG)
        files = {checkpoint.name: _record(checkpoint, source)}
        file = FamilyFile(
            name=folder.name,
            version=version_of(files),
            checkpoint=checkpoint.name,
            config=None if own is None else CONFIG,
            prediction=found.prediction,
            zero_terminal_snr=found.zero_terminal_snr,
            files=files,
        )
        write_family(new, file)
        if found.tensors is not None:  # safetensors makes its files for their owner alone
            checkpoint.chmod(stat.S_IMODE((new / FILE).stat().st_mode))
        Catalogue.open(new)
        os.replace(new, folder)


def bring(source: Path, folder: Path) -> str:
    """Bring a LoRA or a refiner to a family; says what was found.

    Raises ToolFault or WeightsFault when it is neither or the family has it, InputFault when a LoRA does not fit.
    """
    from models.assembling import check_lora, check_refiner

    file, catalogue = read_family(folder), Catalogue.open(folder)
    if source.is_dir():
        raise ToolFault(f"{source.name} is a folder: --family takes one file.")
    found = recognise(read_header(source))
    name = source.name if source.suffix == SUFFIX else source.name + SUFFIX
    if found.kind == "LoRA":
        check_lora(source, catalogue)
        place = f"{LORAS}/{name}"
        if name in file.loras or (folder / place).exists():
            raise ToolFault(f"The family {file.name} has a LoRA {name} already.")
        changed = file.model_copy(update={"loras": {**file.loras, name: LoraEntry(file=place)}})
    elif found.kind in ("SDXL refiner", "Stable Diffusion 1.5"):
        own = file.refiner_config
        check_refiner(source, None if own is None else folder / own)
        place = f"{REFINER}/{name}"
        if catalogue.has("refiner") or (folder / place).exists():
            raise ToolFault(f"The family {file.name} has a refiner already.")
        changed = file.model_copy(update={"parts": {**file.parts, "refiner": place}})
    else:
        raise ToolFault(f"{source.name} is {found.article}, and --family takes a LoRA or a refiner.")
    target = folder / place
    fresh = not target.parent.exists()
    target.parent.mkdir(exist_ok=True)
    try:
        _place(source, target)
        files = {**file.files, place: _record(target, source)}
        write_family(folder, changed.model_copy(update={"files": files, "version": version_of(files)}))
    except BaseException:
        target.unlink(missing_ok=True)
        if fresh:
            target.parent.rmdir()
        raise
    return f"{source.name} is {found}; it fits the family {file.name} and lies in {target} now."


def _name_of(source: Path) -> str:
    stem = source.resolve().name if source.is_dir() else source.name.removesuffix(SUFFIX)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A new folder on the same disk, removed at the end if it is still there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = aside / folder.name
        new.mkdir()
        yield new
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _place(source: Path, target: Path) -> None:
    """Link a file, or copy it where the disk is another. What a symbolic link points to is taken, not the link.

    Raises ToolFault when there is no room for a copy.
    """
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:
        require_space(target.parent, real.stat().st_size, "imported")
        shutil.copy2(real, target)


def _copy_config(config: Path, target: Path) -> None:
    for part in ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        if not (config / part).is_dir():
            raise ToolFault(f"The configurations in {config} lack {part}.")
        shutil.copytree(
            config / part,
            target / part,
            ignore=lambda _, names: [n for n in names if not n.endswith((".json", ".txt"))],
        )


def _record(path: Path, origin: Path) -> FileRecord:
    found = path.stat()
    return FileRecord(
        size=found.st_size,
        sha256=sha256_of(path),
        header=read_header(path).digest,
        modified_ns=found.st_mtime_ns,
        origin=str(origin.resolve()),
    )

"""A benchmark's result: facts about the run and tables, as markdown for people and JSON for programs."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

Cell = str | int | float | None


@dataclass(eq=False)
class Table:
    """Rows under named columns. A row may leave columns out; the first row's columns come first."""

    title: str
    rows: list[dict[str, Cell]] = field(default_factory=list)

    def markdown(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [columns, ["---"] * len(columns), *([shown(row.get(name)) for name in columns] for row in self.rows)]
        return f"### {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(eq=False)
class Report:
    """What a run found. name: of the files that it is written to. command: what repeats it."""

    name: str
    command: str
    facts: Mapping[str, Cell]
    tables: Sequence[Table]

    def markdown(self) -> str:
        facts = "".join(f"- {name}: {shown(value)}\n" for name, value in self.facts.items())
        found = "\n".join(table.markdown() for table in self.tables if table.rows)
        return f"`{self.command}`\n\n{facts}\n{found}"

    def publish(self, folder: Path | None) -> None:
        """Print the report, and write it where there is a folder for it."""
        if folder is not None:
            self.write(folder)
        print(self.markdown())

    def write(self, folder: Path) -> None:
        """Write NAME.json and NAME.md into `folder`, which is made when it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {
            "command": self.command,
            "facts": dict(self.facts),
            "tables": {table.title: table.rows for table in self.tables},
        }
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")


def machine(device: torch.device) -> dict[str, Cell]:
    """What the numbers of a run depend on."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
    }


def shown(value: Cell) -> str:
    """A cell as people read it: three digits of a measured number."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)

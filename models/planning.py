"""What is planned for a family on graphics cards: as tables, and as the lines that a replica logs."""

from pathlib import Path

from rich.table import Table

from models.catalogue import ENTRIES
from models.showing import wide_console
from pipelines.catalogue import Catalogue
from pipelines.errors import WeightsFault
from pipelines.memory.cards import HEAD, ROWS, Dtype, of_family, of_sdxl, table
from pipelines.memory.describing import describe
from pipelines.memory.plan import GB, Footprint, plan_memory
from pipelines.parts import Part

UNTOLD: tuple[Part, ...] = ("image_prompt", "vision")  # parts of which no configuration here tells the size


def show_plan(folder: Path, dtype: Dtype, memory_gb: float | None) -> None:
    """Print the plan for a family on a GPU with that much memory in GB of 2**30 bytes, or without it what is planned
    on usual cards; or why there is none."""
    try:
        footprint = of_family(Catalogue.open(folder), dtype)
        if memory_gb is None:
            cards = Table(*HEAD, title=f"Planned in {dtype} for GPUs (not measured)", title_justify="left")
            for row in table(footprint):
                cards.add_row(*row)
            wide_console().print(cards)
            return
        for line in describe(plan_memory(footprint, int(memory_gb * GB), ROWS), footprint, ROWS):
            print(line)
    except WeightsFault as fault:
        print(f"no plan: {fault}")


def show_cards(dtype: Dtype) -> None:
    """Print what is planned for SDXL as published on usual cards, in Markdown."""
    print("\n".join(cards_in_markdown(dtype)))


def cards_in_markdown(dtype: Dtype) -> list[str]:
    """Lines of a table."""
    rule = f"|{'---|' * len(HEAD)}"
    head, *rows = (f"| {' | '.join(row)} |" for row in (HEAD, *table(published(dtype))))
    return [head, rule, *rows]


def published(dtype: Dtype) -> Footprint:
    """SDXL's footprint with every part. Those without a configuration here count as much as their published files."""
    sizes = {entry.name: entry.size for entry in ENTRIES}
    return of_sdxl(dtype, {part: sizes[part] or 0 for part in UNTOLD})

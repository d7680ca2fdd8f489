"""The phrasebook: the styles and wildcards that a prompt may name, read once, and the texts that it makes of a spec."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.prompts.assembly import Assembled, assemble
from pipelines.prompts.styles import EXPANSION, RANDOM, STYLES, Style, read_styles
from pipelines.prompts.wildcards import Wildcards, read_wildcards

if TYPE_CHECKING:  # who encodes prompts needs no pydantic
    from pipelines.spec import Spec


@dataclass(frozen=True, slots=True)
class Phrasebook:
    """styles: by name; by default those of this package. wildcards: what each may become; by default there are none."""

    styles: Mapping[str, Style] = field(default_factory=lambda: STYLES)
    wildcards: Wildcards = field(default_factory=dict)

    @classmethod
    def read(cls, styles_folder: Path | None = None, wildcards_folder: Path | None = None) -> "Phrasebook":
        """With the styles of a folder beside this package's, or in place of those of the same name, and the wildcards
        of another one.

        Raises FolderFault or OSError for a folder that is not there and for a file that cannot be used; both name it.
        """
        styles = STYLES if styles_folder is None else read_styles(styles_folder)
        return cls(styles, {} if wildcards_folder is None else read_wildcards(wildcards_folder))

    @property
    def names(self) -> tuple[str, ...]:
        """All that a request may name as its styles."""
        return EXPANSION, RANDOM, *self.styles

    def assembled(self, spec: "Spec") -> Assembled:
        """The texts of each of its pictures. Raises InputFault as `assemble`."""
        styles = (*spec.styles, EXPANSION) if spec.expand_prompt else spec.styles
        return assemble(
            spec.prompt, spec.negative_prompt, styles, spec.seeds, known=self.styles, wildcards=self.wildcards
        )


BUNDLED = Phrasebook()
"""With what ships with this package, and nothing of an operator's."""

"""Whoever cites docs/reference names a section that is there: `fooocus-facts 4.2`, `fal-protocol 6.1 to 6.3`."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

from tests.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"
NUMBER = r"\d+(?:\.\d+)*\b"
SPACE = r"[\s#]+"  # a citation may go on in the next line of a comment
LIST = rf"{NUMBER}(?:(?:,| and| to){SPACE}{NUMBER})*"

Sections = Mapping[str, Set[str]]


def sections(text: str) -> list[str]:
    """The numbers of a document's headings, and of those rows of tables that continue their heading's: 0.1, 0.2."""
    found: list[str] = []
    chapter = ""
    for line in text.splitlines():
        if heading := re.match(rf"##+ ({NUMBER})", line):
            chapter = heading[1]
            found.append(chapter)
        elif (row := re.match(rf"\| ({NUMBER}) \|", line)) and row[1].rpartition(".")[0] == chapter:
            found.append(row[1])
    return found


def faults(text: str, path: str, documents: Sections) -> Iterator[str]:
    """Citations without a section, of one that is missing, or with another spelling of the document's name."""
    for name, known in documents.items():
        # the name of the file, with its ending, is no citation
        for place, listed in _found(rf"(?<![\w-]){name}(?![\w-]|\.md)(?:{SPACE}(?P<list>{LIST}))?", text):
            if not listed:
                yield f"{path}:{place}: {name} is cited without a section"
            yield from _unknown(f"{path}:{place}: {name}", listed, known)
        first, _, last = name.partition("-")
        for place, listed in _found(rf"(?i:\b{first}[_ ]{last}|[(;]\s*{last}),?{SPACE}(?P<list>{LIST})", text):
            yield f"{path}:{place}: to be written as `{name} {listed}`"


def own_faults(text: str, path: str, known: Set[str]) -> Iterator[str]:
    """What a document says of its own sections (`section 4.1`) and of files (links, `docs/...`), and is not so."""
    for place, listed in _found(rf"\b[Ss]ections?{SPACE}(?P<list>{LIST})", text):
        yield from _unknown(f"{path}:{place}:", listed, known)
    for place, target in _found(r"\]\((?P<list>[^)#\s]+)", text):
        if not target.startswith("https://") and not ((ROOT / path).parent / target).is_file():
            yield f"{path}:{place}: no file {target}"
    for place, target in _found(r"(?<![\w/.-])(?P<list>(?:docs|tests)/[\w/.-]*\w)", text):
        if not (ROOT / target).exists():
            yield f"{path}:{place}: no file {target}"


def _found(pattern: str, text: str) -> Iterator[tuple[int, str]]:
    """The line of each match, and what its group `list` holds."""
    for match in re.finditer(pattern, text):
        yield text.count("\n", 0, match.start()) + 1, match["list"] or ""


def _unknown(where: str, listed: str, known: Set[str]) -> Iterator[str]:
    for number in re.findall(NUMBER, listed):
        if number not in known:
            yield f"{where} has no section {number}"


def texts() -> Iterator[tuple[str, str]]:
    """Path and content of every text file that is tracked, or is new and not ignored."""
    listing = ("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    for path in sorted(set(done.stdout.split("\0")) - {""}):
        file = ROOT / path
        if file.is_file() and not file.is_symlink() and b"\0" not in (content := file.read_bytes()):
            yield path, content.decode("utf-8", errors="replace")


@pytest.fixture(scope="module")
def documents() -> dict[Path, str]:
    found = {path: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    assert {path.name for path in found} >= {"fal-protocol.md", "fooocus-facts.md"}
    return found


def test_every_citation_names_a_section_that_is_there(documents: dict[Path, str]) -> None:
    known = {path.stem: set(sections(text)) for path, text in documents.items()}
    citations = 0
    broken: list[str] = []
    for path, text in texts():
        broken += faults(text, path, known)
        citations += sum(len(re.findall(rf"{name}{SPACE}{NUMBER}", text)) for name in known)
    assert not broken, "\n".join(broken)
    assert citations > 60


def test_what_the_documents_refer_to_is_there(documents: dict[Path, str]) -> None:
    broken: list[str] = []
    for path, text in documents.items():
        numbers = sections(text)
        assert len(numbers) == len(set(numbers)), f"{path.name}: a number stands twice"
        broken += own_faults(text, path.relative_to(ROOT).as_posix(), set(numbers))
    assert not broken, "\n".join(broken)


BOOK = "# 3 books\n## 0. Rows\n| # | a |\n|---|---|\n| 0.1 | x |\n| 1.5 | y |\n## 1. One\n### 1.2 Two [S]\n## 10. Ten\n"


def test_headings_and_numbered_rows_are_sections() -> None:
    assert sections(BOOK) == ["0", "0.1", "1", "1.2", "10"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# as (road-book 1.3) says", "x.py:1: road-book has no section 1.3"),
        ("\n# road-book 2", "x.py:2: road-book has no section 2"),
        ("road-book 1.2.1", "x.py:1: road-book has no section 1.2.1"),
        ("road-book 0.1, 1.2 and 9", "x.py:1: road-book has no section 9"),
        ("road-book 1 to 11", "x.py:1: road-book has no section 11"),
        ("# road-book 1,\n    # 1.4", "x.py:1: road-book has no section 1.4"),
        ("# road-book\n# 3.3", "x.py:1: road-book has no section 3.3"),
        ("see road-book.", "x.py:1: road-book is cited without a section"),
        ("(road-book, 1.2)", "x.py:1: road-book is cited without a section"),
        ("(road-book section 1.2)", "x.py:1: road-book is cited without a section"),
        ("(book, 1.2)", "x.py:1: to be written as `road-book 1.2`"),
        ("so it is; book 1.2, 10", "x.py:1: to be written as `road-book 1.2, 10`"),
        ("Road book 1.2", "x.py:1: to be written as `road-book 1.2`"),
    ],
)
def test_a_wrong_citation_is_reported(text: str, said: str) -> None:
    assert list(faults(text, "x.py", {"road-book": set(sections(BOOK))})) == [said]


@pytest.mark.parametrize(
    "text",
    [
        "(road-book 0.1, 1.2 and 10)",
        "road-book 1 to 1.2.",
        "`road-book 1.2`",
        "# road-book 1,\n# 1.2",
        "docs/reference/road-book.md",
        "a book 1.5 of which",
        "broad-book, road-bookings",
    ],
)
def test_a_right_citation_is_not(text: str) -> None:
    assert not list(faults(text, "x.py", {"road-book": set(sections(BOOK))}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("as section 1.3 says", "docs/reference/x.md:1: has no section 1.3"),
        ("sections 1, 1.2 and 7", "docs/reference/x.md:1: has no section 7"),
        ("[it](../nowhere.md)", "docs/reference/x.md:1: no file ../nowhere.md"),
        ("[it](../nowhere.md#part)", "docs/reference/x.md:1: no file ../nowhere.md"),
        ("\nsee `docs/nowhere.md`.", "docs/reference/x.md:2: no file docs/nowhere.md"),
        ("[it](docs/api.md)", "docs/reference/x.md:1: no file docs/api.md"),
    ],
)
def test_a_wrong_reference_inside_a_document_is_reported(text: str, said: str) -> None:
    assert list(own_faults(text, "docs/reference/x.md", set(sections(BOOK)))) == [said]


def test_a_right_reference_inside_a_document_is_not() -> None:
    text = "Sections 0.1 and 1.2, [the page](../api.md#errors), `docs/api.md`, [fal](https://fal.ai), https://docs.fal.ai/x"
    assert not list(own_faults(text, "docs/reference/x.md", set(sections(BOOK))))

"""The card of the pocket model says of each weight file by which command and with which commit it was made."""

import re
from hashlib import sha256
from pathlib import Path

from models.pocket import trained
from training.pocket.parts import PARTS

CARD = Path(trained.__file__).with_name("README.md")
ROW = re.compile(
    r"\| `(\w+)\.safetensors` \| `python -m training\.pocket\.train (\w+)` \| [0-9a-f]{7} \| ([0-9a-f]{12}) \|"
)


def test_the_card_says_where_each_file_comes_from() -> None:
    rows = ROW.findall(CARD.read_text(encoding="utf-8"))
    digests = {path.stem: sha256(path.read_bytes()).hexdigest()[:12] for path in trained.FOLDER.iterdir()}
    assert {name: digest for name, _, digest in rows} == digests
    assert len(rows) == len(digests)
    for name, part, _ in rows:
        assert name in PARTS[part].ships


def test_the_card_names_every_part() -> None:
    parts = CARD.read_text(encoding="utf-8").partition("## Parts")[2].partition("## ")[0]
    assert [name for name in PARTS if f"`{name}`" not in parts] == []

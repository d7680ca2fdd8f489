"""Draw the README's pictures by a running service: `python docs/strip.py http://127.0.0.1:8000`."""

import argparse
import base64
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

FOLDER = Path(__file__).parent
GIVEN = FOLDER / "heart.png"  # what the README's programs send
SEED = 3
EDGE, GAP, LINES = 200, 12, 3  # pixels, pixels, of text
PROMPTS = (
    "a red circle on a blue background",
    "a black smiling face in the middle, pink background",
    "a big green star at the bottom, black background",
    "a small white heart on the left on a purple background",
    "a huge yellow cross on the right, brown background",
    "a blue ring on top against an orange background",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", help="its address")
    parser.add_argument("--out", type=Path, default=FOLDER / "strip.png", help="beside it come the examples")
    asked = parser.parse_args()
    service: str = asked.service
    # by default, but at the size that the pocket model knows best
    plain = {"aspect_ratio": "256x256", "output_format": "png", "seed": SEED}
    drawn = [draw(service, "fal-ai/fooocus", {"prompt": prompt, **plain}) for prompt in track(PROMPTS, "drawing")]
    strip(drawn, PROMPTS).save(asked.out, optimize=True)
    given = "data:image/png;base64," + base64.b64encode(GIVEN.read_bytes()).decode()
    with Image.open(GIVEN) as opened:
        shown = [opened.convert("RGB"), *(draw(service, *example) for example in examples(given))]
    strip(shown, ("docs/heart.png", "of its edges and a prompt", "of it and a prompt")).save(
        asked.out.with_name("examples.png"), optimize=True
    )


def examples(given: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The endpoints and inputs of the README's programs. given: the picture as a data URI."""
    edges = {"type": "PyraCanny", "image_url": given, "weight": 1, "stop_at": 1}
    return [
        (
            "fal-ai/fooocus/image-prompt",
            {
                "prompt": "a big red heart on the left, blue background",
                "image_prompt_1": edges,
                "aspect_ratio": "512x512",
                "seed": 1,
            },
        ),
        (
            "fal-ai/fast-fooocus-sdxl/image-to-image",
            {"prompt": "a big green star on the left, white background", "image_url": given, "seed": 1},
        ),
    ]


def draw(service: str, endpoint: str, asked: Mapping[str, Any]) -> Image.Image:
    answer = httpx2.post(f"{service}/{endpoint}", json=dict(asked), timeout=300)
    answer.raise_for_status()
    picture = httpx2.get(answer.json()["images"][0]["url"], timeout=60)
    picture.raise_for_status()
    return Image.open(io.BytesIO(picture.content)).convert("RGB")


def strip(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Image.Image:
    """The pictures side by side with their prompts under them."""
    font = ImageFont.load_default(size=14)
    high = EDGE + LINES * 18 + GAP
    sheet = Image.new("RGB", (len(pictures) * (EDGE + GAP) - GAP, high), "white")
    pencil = ImageDraw.Draw(sheet)
    for at, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        left = at * (EDGE + GAP)
        sheet.paste(picture.resize((EDGE, EDGE), Image.Resampling.LANCZOS), (left, 0))
        lines = textwrap.wrap(prompt, 27)
        pencil.multiline_text((left + EDGE / 2, EDGE + 8), "\n".join(lines), "black", font, "ma", align="center")
    return sheet


if __name__ == "__main__":
    main()

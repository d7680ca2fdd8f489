"""Draw the README's strip of pictures by a running service: `python docs/strip.py http://127.0.0.1:8000`."""

import argparse
import io
import textwrap
from pathlib import Path

import httpx2
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

STRIP = Path(__file__).parent / "strip.png"
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
    parser.add_argument("--out", type=Path, default=STRIP)
    asked = parser.parse_args()
    pictures = [drawn(asked.service, prompt) for prompt in track(PROMPTS, "drawing")]
    strip(pictures, PROMPTS).save(asked.out, optimize=True)


def drawn(service: str, prompt: str) -> Image.Image:
    """What the service's first endpoint draws by default, at the size that the pocket model knows best."""
    asked = {"prompt": prompt, "aspect_ratio": "256x256", "output_format": "png", "seed": SEED}
    answer = httpx2.post(f"{service}/fal-ai/fooocus", json=asked, timeout=300)
    answer.raise_for_status()
    picture = httpx2.get(answer.json()["images"][0]["url"], timeout=60)
    picture.raise_for_status()
    return Image.open(io.BytesIO(picture.content)).convert("RGB")


def strip(pictures: list[Image.Image], prompts: tuple[str, ...]) -> Image.Image:
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

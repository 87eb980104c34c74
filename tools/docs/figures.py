"""Draw the documents' figures with the project's own code, which computes all sizes, kernels, losses and maps.

    python tools/docs/figures.py            checks that the drawings match the code
    python tools/docs/figures.py --write    redraws all figures

| figure | drawn from |
|---|---|
| network.svg, bottleneck.svg, head.svg | the modules of `ddamfn.models`, run once on an empty image |
| attention-loss.svg | `ddamfn.objectives.attention_loss` of four pairs of maps |
| attention.png, demo.png | the bundled portrait, read with the bundled weights |

The four drawings are the same bytes everywhere. The two images depend on the weights, and in their last digits on the
processor, so redraw them when the weights change. Needs the extra "train".
"""

import argparse
import io
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from figures_network import bottleneck, head, network
from numpy.typing import NDArray
from PIL import Image
from svg import MUTED, Drawing

from ddamfn import Recognizer, create_model
from ddamfn.classifier import preprocessing_of
from ddamfn.drawing import overlay
from ddamfn.drawing.palette import INK, write
from ddamfn.faces import normalize, preprocess
from ddamfn.objectives import attention_loss
from ddamfn.weights import Card

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCRIPT = "tools/docs/figures.py"
_SIDE = 7
_COLORS = 255


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the drawings, or redraw everything with --write; return 1 if a drawing is outdated."""
    parser = argparse.ArgumentParser(description="Draws the figures of the documents.")
    parser.add_argument("--write", action="store_true", help="redraw all figures")
    args = parser.parse_args(arguments)
    old = [
        name
        for name, text in drawings().items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text(encoding="utf-8") != text
    ]
    if not args.write:
        sys.stdout.write(f"outdated: {', '.join(old)}; run python {SCRIPT} --write\n" if old else "up to date\n")
        return 1 if old else 0
    for name, text in drawings().items():
        (DOCS / name).write_text(text, encoding="utf-8")
    for name, image in images().items():
        (DOCS / name).write_bytes(_small(image))
    return 0


def drawings() -> dict[str, str]:
    """Return the drawings' files: name and SVG text."""
    return {
        "network.svg": network(),
        "bottleneck.svg": bottleneck(),
        "head.svg": head(),
        "attention-loss.svg": loss_of_pairs(),
    }


def loss_of_pairs() -> str:
    """Draw four pairs of maps, their maximum, and their attention loss."""
    made = Drawing(780, 452, "Four pairs of attention maps and their attention loss")
    for x, word in ((210, "head 1"), (330, "head 2"), (450, "maximum")):
        made.words(x, 30, word, color=MUTED)
    for place, (words, pair) in enumerate(pairs().items()):
        y = 44 + 100 * place
        made.words(20, y + 34, words.split(" / "), anchor="start", size=14)
        for column, values in enumerate((pair[0], pair[1], pair.amax(dim=0))):
            made.map(168 + 120 * column, y, values.tolist())
        # A head's map has 512 channels; here they are all alike.
        value = float(attention_loss(pair[None, :, None]))
        difference = float((pair[0] - pair[1]).square().mean())
        told = [f"mean squared difference {difference:.3f}", f"attention loss {value:.1f}"]
        made.words(530, y + 38, told, anchor="start", size=15)
    return made.text()


def pairs() -> dict[str, torch.Tensor]:
    """Return examples of the maps of two heads, each float (2, 7, 7) in (0, 1)."""
    generator = torch.Generator().manual_seed(4)
    rows = torch.arange(_SIDE, dtype=torch.float32)
    bump = torch.exp(-((rows[:, None] - 2) ** 2 + (rows[None, :] - 3) ** 2) / 4)
    alike = (0.25 + 0.06 * torch.randn(2, _SIDE, _SIDE, generator=generator)).clamp(0.01, 0.99)
    return {
        "two untrained heads": alike,
        "unrelated maps": torch.rand(2, _SIDE, _SIDE, generator=generator),
        "eyes and mouth": torch.stack([bump, bump.roll(3, dims=0)]),
        "one all ones, / one all zeros": torch.stack([torch.ones(_SIDE, _SIDE), torch.zeros(_SIDE, _SIDE)]),
    }


def images() -> dict[str, Image.Image]:
    """Return the images made from the portrait: the output of `ddamfn demo`, and its attention maps."""
    recognizer = Recognizer()
    result = recognizer.predict(files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes())
    aligned = result.faces[0].aligned
    assert aligned is not None
    return {"demo.png": result.plot(attention=True), "attention.png": attention_maps(aligned, recognizer.card)}


def attention_maps(aligned: NDArray[np.uint8], card: Card, side: int = 240, gap: int = 16) -> Image.Image:
    """Draw a face, each head's map over it, and their maximum, which multiplies the features, with ranges below.

    All are means over the channels. The maximum is taken per channel first, as in the network: the maximum of the means
    would hide that attention is nearly off.

    Args:
        aligned: uint8 (S, S, 3) RGB.
        card: the weights' card.
        side: of each tile, in px.
        gap: between tiles, in px.
    """
    seen = preprocess(aligned[None], preprocessing_of(card))
    inputs = torch.from_numpy(normalize(seen, card.mean, card.std))
    model = create_model(card.architecture["name"], weights=card.name)
    with torch.no_grad():
        attention = model(inputs).attention[0]
    maps = {f"head {number}": values for number, values in enumerate(attention, start=1)}
    maps["maximum"] = attention.amax(dim=0)
    tiles = [("aligned face", Image.fromarray(aligned).resize((side, side), Image.Resampling.LANCZOS))]
    for word, values in maps.items():
        mean = values.mean(dim=0).numpy()
        tiles.append((f"{word}: {mean.min():.3f} to {mean.max():.3f}", overlay(aligned, mean, side)))
    sheet = Image.new("RGB", (gap + len(tiles) * (side + gap), side + 3 * gap + 8), "white")
    for place, (word, tile) in enumerate(tiles):
        left = gap + place * (side + gap)
        sheet.paste(tile, (left, gap))
        write(sheet, (left, side + 2 * gap + 2), word, 17, INK)
    return sheet


def _small(image: Image.Image) -> bytes:
    """Return a dithered PNG of few colors: a third of the size without a visible difference."""
    image, buffer = image.convert("RGB"), io.BytesIO()
    few = image.quantize(_COLORS)
    colors = few.getpalette() or []
    # The paper is white, not nearly.
    lightest = max(range(0, len(colors), 3), key=lambda place: sum(colors[place : place + 3]))
    few.putpalette([*colors[:lightest], 255, 255, 255, *colors[lightest + 3 :]])
    # Dithering is done for a palette that is given, and for no other.
    image.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())

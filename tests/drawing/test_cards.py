"""Cards beside an image: there for each face, counted beyond the sixth, and as tall as the image."""

import numpy as np
import pytest
from PIL import Image

from ddamfn.drawing import FaceCard, draw_card, with_cards
from ddamfn.labels import EXPRESSIONS


def _card(rng: np.random.Generator, heads: int | None = 2) -> FaceCard:
    shares = rng.dirichlet(np.ones(8))
    best = int(shares.argmax())
    attention = None if heads is None else rng.uniform(size=(heads, 7, 7))
    crop = rng.integers(0, 256, size=(112, 112, 3), dtype=np.uint8)
    named = dict(zip(EXPRESSIONS, shares.tolist(), strict=True))
    return FaceCard(crop, attention, EXPRESSIONS[best], float(shares[best]), named)


@pytest.mark.parametrize("heads", [None, 1, 2, 4])
def test_a_card_has_a_tile_for_the_face_and_for_each_head(heads: int | None, rng: np.random.Generator) -> None:
    card = _card(rng, heads)
    drawn = draw_card(card)
    blank = FaceCard(np.full_like(card.crop, 255), None, "", 0.0, card.probabilities)
    assert drawn.width >= draw_card(blank).width
    assert drawn.size == tuple(side // 2 for side in draw_card(card, 2.0).size)


def test_the_bar_of_a_sure_expression_is_longer(rng: np.random.Generator) -> None:
    crop = np.full((112, 112, 3), 255, dtype=np.uint8)

    def colored(share: float) -> int:
        card = FaceCard(crop, None, "happiness", share, {"happiness": share})
        pixels = np.asarray(draw_card(card)).astype(int)
        return int((np.abs(pixels - [255, 200, 61]).sum(axis=-1) < 30).sum())

    assert colored(0.9) > 2 * colored(0.3) > 0
    assert colored(0.0) == 0


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9, 40])
@pytest.mark.parametrize("size", [(512, 512), (4000, 2600), (480, 60), (300, 1200)])
def test_any_number_of_cards_stands_beside_any_image(
    count: int, size: tuple[int, int], rng: np.random.Generator
) -> None:
    card = _card(rng)
    image = Image.new("RGB", size, (10, 120, 40))
    whole = with_cards(image, [card] * count)
    assert whole.width > size[0]
    assert whole.height >= size[1]
    green = (np.asarray(whole)[:, 2] == (10, 120, 40)).all(axis=-1)
    assert green.sum() >= size[1], "the image must be shown in full height"


def test_without_cards_the_image_is_itself() -> None:
    image = Image.new("RGB", (20, 10))
    assert with_cards(image, []) is image

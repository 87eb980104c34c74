"""The weights inside the package: whole, small enough, and right about the portrait that everybody sees first."""

import io
from importlib.resources import files

import numpy as np
from PIL import Image

from ddamfn import Recognizer
from ddamfn.weights import DEFAULT_WEIGHTS, find_weights, list_weights, verify

_LARGEST_BYTES = 17_000_000


def test_the_default_weights_are_bundled_whole_and_small() -> None:
    assert DEFAULT_WEIGHTS in [card.name for card in list_weights()]
    for card in list_weights():
        content = verify(card, find_weights(card.name)[0])
        assert len(content) <= _LARGEST_BYTES
        assert card.score("test") is not None
        assert card.rights


def test_the_portrait_smiles() -> None:
    portrait = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
    (face,) = Recognizer().predict(portrait).faces
    assert face.expression == "happiness"
    assert face.attention is not None
    assert face.attention.shape == (2, 7, 7)
    # Heads that look at the same places would make the attention loss pointless.
    assert np.abs(face.attention[0] - face.attention[1]).max() > 0.01


def test_the_portrait_smiles_in_the_dark() -> None:
    portrait = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
    with Image.open(io.BytesIO(portrait)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(float)
    flat = pixels.mean() + 0.1 * (pixels - pixels.mean())
    for changed in (0.05 * pixels, flat):
        (face,) = Recognizer().predict(np.rint(changed).astype(np.uint8)).faces
        assert face.expression == "happiness"
        assert face.confidence > 0.9

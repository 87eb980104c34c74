"""Corruptions of a face: of the crop's pixels, and of the landmarks that the crop is aligned by.

Lengths are pixels of a crop of `CROP_SIDE_PX`, gray levels are 0..255. The face and the perturbation seed the random
generator, so a face gets the same numbers at every strength, whichever other faces are measured.
"""

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]

PixelChange = Callable[[Pixels, float, np.random.Generator], Pixels]
"""(S, S, 3) uint8 RGB and a strength to a crop of the same shape; the input stays as it is."""
LandmarkChange = Callable[[Points, Points, float, np.random.Generator], Points]
"""Landmarks (5, 2) in pixels of the image, the matrix (2, 3) from image to crop, and a strength to landmarks."""

CROP_SIDE_PX = 112
LEVELS = ("mild", "medium", "severe", "very severe", "extreme")
"""From the weakest on; a perturbation may have fewer."""
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One corruption at up to five strengths."""

    name: str  # unique
    wording: str  # format string of a strength
    strengths: tuple[float, ...]  # one for each of the first `LEVELS`
    pixels: PixelChange | None = None
    landmarks: LandmarkChange | None = None  # the face is then aligned anew from the image
    is_random: bool = False  # measured with several draws

    def describe(self, strength: float) -> str:
        """Describe the strength for readers."""
        return self.wording.format(strength)


def generator_for(seed: int, name: str, key: str, draw: int = 0) -> np.random.Generator:
    """Return the random generator of one draw of one face under one perturbation."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(key.encode()), draw])


def blur(crop: Pixels, sigma_px: float, generator: np.random.Generator) -> Pixels:
    """Blur with a Gaussian of this standard deviation in pixels, exact rather than by repeated boxes; edges repeat."""
    reach = int(np.ceil(4 * sigma_px))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    kernel /= kernel.sum()
    result = crop.astype(np.float64)
    for axis in (0, 1):
        margins = [(reach, reach) if dimension == axis else (0, 0) for dimension in range(3)]
        padded = np.pad(result, margins, mode="edge")
        result = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=axis) @ kernel
    return _to_pixels(result)


def rescale(crop: Pixels, factor: float, generator: np.random.Generator) -> Pixels:
    """Downscale to this share of the side, antialiased, and enlarge back, like a small image shown large."""
    side = crop.shape[0]
    small = Image.fromarray(crop).resize((round(side * factor),) * 2, Image.Resampling.BICUBIC)
    return np.array(small.resize((side, side), Image.Resampling.BICUBIC))


def jpeg(crop: Pixels, quality: float, generator: np.random.Generator) -> Pixels:
    """Encode as JPEG of this quality (libjpeg's 1 to 95, chroma at half resolution) and decode."""
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, format="JPEG", quality=round(quality), subsampling="4:2:0")
    with Image.open(buffer) as image:
        return np.array(image.convert("RGB"))


def noise(crop: Pixels, sigma: float, generator: np.random.Generator) -> Pixels:
    """Add Gaussian noise of this deviation in gray levels, the same in all channels.

    Independent channels would partly cancel out for a network that reads gray.
    """
    return _to_pixels(crop + sigma * generator.standard_normal((*crop.shape[:2], 1)))


def brightness(crop: Pixels, factor: float, generator: np.random.Generator) -> Pixels:
    """Multiply by this factor and clip to white."""
    return _to_pixels(crop * factor)


def contrast(crop: Pixels, factor: float, generator: np.random.Generator) -> Pixels:
    """Multiply the distance from the crop's mean luma by this factor: flat light or haze below 1, hard light above."""
    mean = float((crop @ _LUMA).mean())
    return _to_pixels(mean + factor * (crop - mean))


def gray(crop: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
    """Remove this share of the color; 1 leaves gray (luma of ITU-R BT.601)."""
    luma = (crop @ _LUMA)[..., None]
    return _to_pixels(crop + strength * (luma - crop))


def color_cast(crop: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
    """Multiply red by 1 + strength and blue by 1 - strength, or the reverse at random: lamplight, or shade."""
    gain = np.array([strength, 0.0, -strength])
    return _to_pixels(crop * (1.0 + gain * generator.choice([-1.0, 1.0])))


def occlude(crop: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """Cover this share of the area by one uniform rectangle of random place, gray level, and shape (1:2 to 2:1)."""
    side = crop.shape[0]
    aspect = 2.0 ** generator.uniform(-1, 1)
    across, down, level = generator.random(3)
    width = min(side, round(side * np.sqrt(share * aspect)))
    height = min(side, round(side * side * share / width))
    left, top = round(across * (side - width)), round(down * (side - height))
    result = crop.copy()
    result[top : top + height, left : left + width] = round(255 * level)
    return result


def rotate(landmarks: Points, matrix: Points, degrees: float, generator: np.random.Generator) -> Points:
    """Rotate the landmarks about their mean by this angle, in a random direction; the face then lies rotated.

    Rotating image and landmarks together would change nothing, because the alignment undoes it.
    """
    angle = np.deg2rad(degrees) * generator.choice([-1.0, 1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    center = landmarks.mean(axis=0)
    turned: Points = (landmarks - center) @ turn.T + center
    return turned


def jitter(landmarks: Points, matrix: Points, distance_px: float, generator: np.random.Generator) -> Points:
    """Move every landmark by this many pixels of the crop, each in a random direction."""
    angles = generator.uniform(0, 2 * np.pi, len(landmarks))
    step = distance_px * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return landmarks + step @ np.linalg.inv(matrix[:, :2]).T


JITTER = Perturbation("landmark jitter", "{:g} px per point", (2.0, 4.0, 6.0), landmarks=jitter, is_random=True)
GRAY = Perturbation("gray", "no color", (1.0,), pixels=gray)

PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation("blur", "σ {:g} px", (1.0, 2.0, 3.0), pixels=blur),
    Perturbation("low resolution", "side × {:g} and back", (0.5, 0.25, 0.125), pixels=rescale),
    Perturbation("JPEG", "quality {:g}", (50.0, 25.0, 10.0), pixels=jpeg),
    Perturbation("noise", "σ {:g} of 255", (5.0, 15.0, 30.0), pixels=noise, is_random=True),
    Perturbation("darkness", "brightness × {:g}", (0.6, 0.4, 0.2, 0.1, 0.05), pixels=brightness),
    Perturbation("overexposure", "brightness × {:g}", (1.4, 1.8, 2.5, 3.0), pixels=brightness),
    Perturbation("low contrast", "contrast × {:g}", (0.7, 0.5, 0.3, 0.2), pixels=contrast),
    Perturbation("high contrast", "contrast × {:g}", (1.25, 1.5, 2.0), pixels=contrast),
    GRAY,
    Perturbation("color cast", "red, blue ± {:.0%}", (0.1, 0.25, 0.5), pixels=color_cast, is_random=True),
    Perturbation("rotation", "{:g}°", (5.0, 15.0, 30.0), landmarks=rotate, is_random=True),
    JITTER,
    Perturbation("occlusion", "{:.0%} covered", (0.1, 0.25, 0.4), pixels=occlude, is_random=True),
)


def _to_pixels(values: NDArray[np.floating]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels

"""High dynamic range (HLG, PQ) mapped to the range of a usual screen, in which the networks have seen faces.

FFmpeg's `zscale` and `libplacebo` are not in PyAV's builds, and its `swscale` computes for seconds before the first
frame.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame

# Code points of ITU-T H.273.
_PQ, _HLG, _BT709_PRIMARIES = 16, 18, 1
# Nominal peak of HLG, and where films in PQ are usually mastered; what is brighter is clipped.
_PEAK_NITS = 1000.0
# What a white page has in HDR (ITU-R BT.2408) becomes the brightest value.
_WHITE_NITS = 203.0
_LEVELS = 65_536
# Pixels of so many rows stay in a core's cache.
_ROWS = 64

# ITU-R BT.2087: linear BT.2020 to linear BT.709.
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
_LUMINANCE = {True: (0.2126, 0.7152, 0.0722), False: (0.2627, 0.6780, 0.0593)}  # of BT.709, of BT.2020


def is_hdr(frame: "VideoFrame") -> bool:
    """Whether a frame is in HLG or PQ."""
    return frame.color_trc in (_PQ, _HLG)


def tone_mapped(frame: "VideoFrame", width: int, height: int) -> NDArray[np.uint8]:
    """Return a frame in HLG or PQ as uint8 (height, width, 3) sRGB.

    Each pixel's luminance is compressed above 100 cd/m² and its hue is kept, so faces look as in a usual video, and
    bright windows keep some detail.

    Source: ITU-R BT.2100-2 for HLG (with its system gamma of 1.2) and PQ; the EETF of ITU-R BT.2390-10, 5.4.1; IEC
    61966-2-1 for sRGB.
    """
    is_bt709 = frame.color_primaries == _BT709_PRIMARIES
    mix = np.eye(3, dtype=np.float32) if is_bt709 else _TO_BT709
    linear, gains, codes = _tables(int(frame.color_trc))
    signal = frame.to_ndarray(format="rgb48le", width=width, height=height).astype(np.uint16, copy=False)
    result = np.empty(signal.shape, np.uint8)
    for top in range(0, height, _ROWS):
        part = signal[top : top + _ROWS]
        channels = [linear.take(part[..., channel]) for channel in range(3)]
        luminance = _weighted(channels, _LUMINANCE[is_bt709])
        gain = gains.take(_index(luminance))
        for channel in range(3):
            result[top : top + _ROWS, :, channel] = codes.take(_index(_weighted(channels, mix[channel]) * gain))
    return result


def _weighted(
    channels: list[NDArray[np.float32]], weights: "tuple[float, ...] | NDArray[np.float32]"
) -> NDArray[np.float32]:
    total = channels[0] * np.float32(weights[0])
    for channel, weight in zip(channels[1:], weights[1:], strict=True):
        total += channel * np.float32(weight)
    return total


def _index(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (np.clip(values, 0, 1) * np.float32(_LEVELS - 1)).astype(np.uint16)


@lru_cache
def _tables(transfer: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Return light by signal, gain by luminance, and sRGB's codes by light; signal, light and luminance from 0 to 1."""
    steps = np.linspace(0, 1, _LEVELS)
    shown = np.maximum(steps, 0.5 / _LEVELS)
    if transfer == _PQ:
        light = np.minimum(_pq_to_nits(steps) / _PEAK_NITS, 1)
        gain = _compressed(shown) / shown
    else:
        light = _hlg_to_light(steps)
        gain = _compressed(shown**1.2) / shown
    srgb = np.where(steps <= 0.0031308, 12.92 * steps, 1.055 * steps ** (1 / 2.4) - 0.055)
    return light.astype(np.float32), gain.astype(np.float32), np.round(255 * srgb).astype(np.uint8)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_to_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    root = signal ** (1 / _M2)
    power: NDArray[np.float64] = np.maximum(root - _C1, 0) / (_C2 - _C3 * root)
    return 10_000 * power ** (1 / _M1)


def _nits_to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (nits / 10_000) ** _M1
    signal: NDArray[np.float64] = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


def _hlg_to_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _compressed(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return light, 1 for the peak, on a screen where 1 is white: BT.2390's curve, straight up to its knee."""
    peak, white = _nits_to_pq(np.array([_PEAK_NITS, _WHITE_NITS]))
    largest = white / peak
    knee = 1.5 * largest - 0.5
    signal = _nits_to_pq(light * _PEAK_NITS) / peak
    t = (signal - knee) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * largest
    return _pq_to_nits(np.where(signal < knee, signal, curve) * peak) / _WHITE_NITS

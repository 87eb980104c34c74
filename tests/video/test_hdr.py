"""Films in HLG and PQ look as the same scene in a usual film."""

from pathlib import Path

import numpy as np
import pytest

from ddamfn.video.pixels import upright_rgb
from ddamfn.video.source import VideoSource

av = pytest.importorskip("av", reason="needs PyAV")

_PQ, _HLG = 16, 18
_BT709, _BT2020 = 1, 9
# ITU-R BT.2087; its inverse is what the code uses.
_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def nits_of(srgb: np.ndarray) -> np.ndarray:
    """Return the light of sRGB on a screen whose white has 203 cd/m²."""
    level = srgb / 255
    return 203 * np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def to_pq(nits: np.ndarray) -> np.ndarray:
    power = np.clip(nits / 10_000, 0, 1) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def to_hlg(nits: np.ndarray) -> np.ndarray:
    shown = np.clip(nits / 1000, 0, 1)
    luminance = np.maximum(shown @ (0.2627, 0.6780, 0.0593), 1e-9)[..., None]
    scene = shown * luminance ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def write_hdr(path: Path, nits: np.ndarray, transfer: int, primaries: int = _BT2020) -> Path:
    """Write one frame of light, (H, W, 3), losslessly with ten bits."""
    light = nits @ _TO_BT2020.T if primaries == _BT2020 else nits
    signal = {_PQ: to_pq, _HLG: to_hlg}[transfer](light)
    pixels = np.round(np.clip(signal, 0, 1) * 65_535).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv444p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_trc = _BT2020, 1, transfer
        context.color_primaries = primaries
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le")
        container.mux(stream.encode(frame.reformat(format="yuv444p10le", dst_colorspace=_BT2020, dst_color_range=1)))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> np.ndarray:
    source = VideoSource(path, start_s=None, end_s=None)
    (pixels,) = [upright_rgb(raw.frame, source.aspect) for raw in source.frames()]
    source.close()
    return pixels.astype(int)


@pytest.mark.parametrize(("transfer", "primaries"), [(_PQ, _BT2020), (_PQ, _BT709), (_HLG, _BT2020)])
def test_what_is_not_brighter_than_a_face_looks_as_usual(
    head: np.ndarray, tmp_path: Path, transfer: int, primaries: int
) -> None:
    usual = (head * 0.7).astype(np.uint8)
    result = read(write_hdr(tmp_path / "a.mkv", nits_of(usual), transfer, primaries))
    assert np.abs(result - usual).mean() < 1.5
    assert np.abs(result - usual).max() < 12


@pytest.mark.parametrize("transfer", [_PQ, _HLG])
def test_highlights_are_compressed_and_not_cut(tmp_path: Path, transfer: int) -> None:
    nits = np.array([0, 26, 100, 203, 400, 700, 1000])
    wide = np.repeat(np.repeat(nits[None, :, None].astype(float), 16, axis=0), 16, axis=1)
    row = read(write_hdr(tmp_path / "a.mkv", np.repeat(wide, 3, axis=2), transfer))[8, 8::16]
    assert np.ptp(row, axis=1).max() <= 2
    grays = row[:, 1].tolist()
    assert grays == sorted(grays)
    assert grays[:3] == pytest.approx([0, 100, 185], abs=3)
    assert 215 < grays[3] < 240
    assert grays[3] < grays[4] < grays[5]
    assert grays[6] >= 254

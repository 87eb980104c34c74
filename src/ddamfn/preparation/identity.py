"""Who is in an image, as dlib's face-recognition network describes it: 128 numbers a face, kept beside the crops.

Only that one network of the package `face-recognition-models` is used: it is in the public domain (CC0). The landmark
network of 68 points in the same package may not be used commercially, so a face is laid out by the five landmarks that
the prepared set has.

Source: dlib's "dlib_face_recognition_resnet_model_v1" (King 2017); two faces less than 0.6 apart are taken for one
person's.
"""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ddamfn.errors import DataError, DegenerateFace, MissingExtra
from ddamfn.faces import Alignment, similarity, warp
from ddamfn.files import atomic_writer, sha256_file
from ddamfn.preparation.prepared import ManifestRow, Prepared

CHIP_SIDE_PX = 150
_PADDING = 0.25
# Eyes (the mean of the six points around each), tip of the nose and corners of the mouth of the mean face that dlib
# lays its chips out by, in a square of side 1.
_MEAN_FACE = np.array(
    [(0.225492, 0.215990), (0.754757, 0.215990), (0.490127, 0.515625), (0.254149, 0.780233), (0.726104, 0.780233)]
)
_NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
_CHUNK = 16

FloatArray = npt.NDArray[np.float32]


class Embedder(Protocol):
    """A network that describes faces."""

    name: str  # part of the cache's file name; another network needs another name
    dim: int  # D, size of an embedding

    def embed(self, chips: npt.NDArray[np.uint8]) -> FloatArray:
        """Describe faces (B, 150, 150, 3) uint8 RGB, laid out as `chip_matrix` does: (B, D) float32."""


class DlibEmbedder:
    """dlib's network; some 7 faces a second on one core. Raise MissingExtra without the extra "identity"."""

    dim = 128

    def __init__(self) -> None:
        path = network_file()
        try:
            dlib: Any = importlib.import_module("dlib")
        except ModuleNotFoundError as error:
            raise MissingExtra("identity", "dlib-bin", "Learning from identities") from error
        self.name = f"dlib-{sha256_file(path)[:8]}"
        self._network = dlib.face_recognition_model_v1(str(path))

    def embed(self, chips: npt.NDArray[np.uint8]) -> FloatArray:
        """Describe faces; the vectors' length is near 1.4, not exactly."""
        return np.array(self._network.compute_face_descriptor(list(chips)), dtype=np.float32)


def network_file() -> Path:
    """Return the network's file; raise MissingExtra if it is not installed.

    Its package is only looked for, since its import needs `pkg_resources`, which is long gone.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "models" / _NETWORK
        if path.is_file():
            return path
    raise MissingExtra("identity", "face-recognition-models", "Learning from identities")


def chip_matrix(row: ManifestRow, alignment: Alignment) -> npt.NDArray[np.float64]:
    """Return the matrix (2, 3) from a prepared crop to the chip of 150 px that dlib's network expects.

    It brings the landmarks (or else the template's) closest to dlib's mean face, with a quarter of its size around it.
    """
    chip = (_MEAN_FACE + _PADDING) / (1 + 2 * _PADDING) * CHIP_SIDE_PX
    landmarks, matrix = row.outcome.landmarks, row.outcome.matrix
    if landmarks is not None and matrix is not None:
        try:
            return similarity(landmarks.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2], chip)
        except DegenerateFace:  # as good as no landmarks
            pass
    return similarity(alignment.points()[0], chip)


def identities(
    prepared: Prepared, name: str, embedder: Embedder, progress: Callable[[int, int], None] | None = None
) -> FloatArray:
    """Return embeddings (N, D) float32 of a split's readable images, in the order of `prepared.split(name, None)`.

    They are cached beside the crops as they come; a later call, also after a kill, computes only what is missing.
    """
    rows = [row for row in prepared.manifest() if row.split == name and not row.outcome.error]
    path = prepared.folder / f"{name}.identity-{embedder.name}.npy"
    try:
        cache = _open(path, (prepared.counts[name]["images"], embedder.dim))
        # A row that a kill tore still has a number missing.
        todo = [row for row in rows if np.isnan(cache[row.row]).any()]
        crops = np.load(prepared.folder / f"{name}.npy", mmap_mode="r")
        if progress is not None and todo:
            progress(len(rows) - len(todo), len(rows))
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            chips = [warp(crops[row.row], chip_matrix(row, prepared.alignment), CHIP_SIDE_PX) for row in chunk]
            cache[[row.row for row in chunk]] = embedder.embed(np.stack(chips))
            cache.flush()
            if progress is not None:
                progress(len(rows) - len(todo) + start + len(chunk), len(rows))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be used ({error}); make room or delete it, then run again") from error
    return np.array(cache[[row.row for row in rows]])


def _open(path: Path, shape: tuple[int, int]) -> "np.memmap[Any, np.dtype[np.float32]]":
    """The cache's file, mapped into memory; a new one holds nothing but NaN."""
    if not path.exists():
        with atomic_writer(path) as stream:
            np.save(stream, np.full(shape, np.nan, dtype=np.float32))
    cache = np.lib.format.open_memmap(path, mode="r+")
    if cache.shape != shape or cache.dtype != np.float32:
        raise ValueError(f"it has the shape {cache.shape}, not {shape}")
    return cache

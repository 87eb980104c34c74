"""Embeddings beside a prepared set: laid out like dlib's chips, computed once, resumed after a stop."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ddamfn.data import open_dataset
from ddamfn.errors import DataError, MissingExtra
from ddamfn.faces import Alignment
from ddamfn.preparation import Prepared, identity, load_prepared, prepare
from ddamfn.preparation.identity import CHIP_SIDE_PX, DlibEmbedder, chip_matrix, identities
from ddamfn.synthetic import write_synthetic_folder


class Fake:
    """Describes a chip by its mean color, and counts what it was asked."""

    name, dim = "fake", 3

    def __init__(self, last: int = 1000) -> None:
        self.seen, self.last = 0, last

    def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert chips.shape[1:] == (CHIP_SIDE_PX, CHIP_SIDE_PX, 3)
        assert chips.dtype == np.uint8
        if self.seen + len(chips) > self.last:
            raise KeyboardInterrupt
        self.seen += len(chips)
        return chips.mean(axis=(1, 2), dtype=np.float32)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four synthetic faces to train on, of 48 px, and one file that is no image."""
    base = tmp_path_factory.mktemp("drawn")
    root = write_synthetic_folder(base / "set", 3, np.random.default_rng(5), side_px=64)
    (root / "train" / "anger" / "00000.png").write_bytes(b"torn")
    return prepare(open_dataset(root), base / "out", Alignment("ddamfn_frontal", side_px=48), workers=1).folder


@pytest.fixture
def prepared(drawn: Path, tmp_path: Path) -> Prepared:
    return load_prepared(shutil.copytree(drawn, tmp_path / "out"))


def test_a_chip_lies_as_dlib_lays_it_out(prepared: Prepared) -> None:
    row = next(row for row in prepared.manifest() if row.outcome.found)
    assert row.outcome.landmarks is not None
    assert row.outcome.matrix is not None
    points = row.outcome.landmarks @ row.outcome.matrix[:, :2].T + row.outcome.matrix[:, 2]
    matrix = chip_matrix(row, prepared.alignment)
    chip = points @ matrix[:, :2].T + matrix[:, 2]
    # dlib's own five-point layout: the corners of the eyes, and the base of the nose, which is not the tip.
    corners = np.array([(0.1205750620789, 0.2137274526848), (0.3340850613712, 0.2290642403242)])
    corners = np.stack([corners, np.array([(0.6460604764104, 0.2289674387677), (0.8595674595992, 0.2134981538014)])])
    eyes = (corners.mean(axis=1) + 0.25) / 1.5 * 150
    # Synthetic faces have other proportions than people, so the fit leaves some pixels.
    np.testing.assert_allclose(chip[:2], eyes, atol=8)
    assert chip[:, 0].mean() == pytest.approx((0.490127 + 0.25) / 1.5 * 150, abs=1.5)


def test_every_readable_image_is_described_once(prepared: Prepared) -> None:
    fake, told = Fake(), []
    got = identities(prepared, "train", fake, lambda done, total: told.append((done, total)))
    assert got.shape == (len(prepared.split("train", None)), 3) == (24, 3)
    assert fake.seen == 24
    assert told == [(0, 24), (16, 24), (24, 24)]
    again = Fake()
    np.testing.assert_array_equal(identities(prepared, "train", again), got)
    assert again.seen == 0


def test_a_stopped_description_goes_on(prepared: Prepared) -> None:
    whole = identities(prepared, "train", Fake())
    path = prepared.folder / "train.identity-fake.npy"
    path.unlink()
    stopped, rest = Fake(last=16), Fake()
    with pytest.raises(KeyboardInterrupt):
        identities(prepared, "train", stopped)
    torn = np.lib.format.open_memmap(path, mode="r+")
    torn[int(np.flatnonzero(~np.isnan(torn[:, 0]))[0]), 2] = np.nan  # a kill while a row was written
    torn.flush()
    told: list[tuple[int, int]] = []
    np.testing.assert_array_equal(identities(prepared, "train", rest, lambda *n: told.append(n)), whole)
    assert (stopped.seen, rest.seen) == (16, 9)
    assert told[0] == (15, 24)


def test_a_file_of_another_shape_is_told_in_one_line(prepared: Prepared) -> None:
    np.save(prepared.folder / "train.identity-fake.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match=r"train.identity-fake.npy: cannot be used \(it has the shape \(2, 3\)"):
        identities(prepared, "train", Fake())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'needs face-recognition-models: pip install "ddamfn\[identity\]"'):
        DlibEmbedder()


@pytest.mark.skipif(
    not (importlib.util.find_spec("dlib") and importlib.util.find_spec("face_recognition_models")),
    reason="needs the extra identity",
)
def test_the_network_knows_a_face_again(prepared: Prepared) -> None:
    from PIL import Image

    import ddamfn
    from ddamfn.faces import RetinaFace, align
    from ddamfn.preparation.image import Outcome
    from ddamfn.preparation.prepared import ManifestRow

    path = Path(ddamfn.__file__).parent / "demo" / "astronaut.jpg"
    image, embedder = np.array(Image.open(path).convert("RGB")), DlibEmbedder()
    landmarks = RetinaFace().detect(image)[0].landmarks
    chips = []
    for template in ("arcface", "ddamfn_frontal"):
        alignment = Alignment(template)
        crop = align(image, landmarks, alignment)
        outcome = Outcome(True, landmarks=landmarks, matrix=crop.matrix)
        row = ManifestRow("a", "train", 0, outcome, None, None, None, None)
        chips.append(identity.warp(crop.pixels, chip_matrix(row, alignment), CHIP_SIDE_PX))
    drawn = np.load(prepared.folder / "train.npy")[-1]
    blank = ManifestRow("b", "train", 0, Outcome(False), None, None, None, None)
    chips.append(identity.warp(drawn, chip_matrix(blank, prepared.alignment), CHIP_SIDE_PX))
    one, same, other = embedder.embed(np.stack(chips))
    assert one.shape == (128,)
    # Less than 0.6 is one person, by the network's own training.
    assert float(np.linalg.norm(one - same)) < 0.4
    assert float(np.linalg.norm(one - other)) > 0.6

"""From an image to explained faces, in Python and from the command line."""

import json
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.cli import main
from ddamfn.errors import UnreadableImage, UsageError
from ddamfn.explain import explain
from ddamfn.explain.explaining import Explainer, mean_score
from ddamfn.explain.faithfulness import Score

PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()


def test_the_heads_maps_need_no_extra(stand_in_weights: Path) -> None:
    explained = explain(PORTRAIT, stand_in_weights, grad_cam=False, random=3, steps=4)
    (face,) = explained.faces
    assert explained.missing is None
    assert [scored.map.name for scored in face.maps] == ["head-1", "head-2", "maximum"]
    assert set(face.baselines) == {face.face.prediction.likeliest, face.second}
    answered = face.baselines[face.face.prediction.likeliest]
    assert len(answered.random) == 3
    for scored in face.maps:
        assert 0 <= scored.score.deletion <= 1
        assert scored.beats_random == sum(scored.score.difference > other.difference for other in answered.random)
        assert scored.beats_center == (scored.score.difference > answered.center.difference)
    plain = json.loads(json.dumps(explained.to_dict()))
    assert np.array(plain["faces"][0]["maps"][2]["values"]).shape == (7, 7)
    assert np.array(plain["faces"][0]["matrix"]).shape == (2, 3)


def test_the_same_seed_gives_the_same_numbers(stand_in_weights: Path) -> None:
    first, again, other = (
        explain(PORTRAIT, stand_in_weights, grad_cam=False, random=2, steps=3, seed=seed).to_dict()
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first["faces"][0]["baselines"] != other["faces"][0]["baselines"]


def test_flat_maps_beat_nothing(stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddamfn.explain.maps._FLAT", 2.0)
    (face,) = explain(PORTRAIT, stand_in_weights, grad_cam=False, random=2, steps=3).faces
    assert all((scored.beats_random, scored.beats_center) == (0, False) for scored in face.maps)


def test_bundled_weights_with_grad_cam() -> None:
    pytest.importorskip("torch", reason="needs PyTorch")
    pytest.importorskip("captum", reason="needs captum")
    pytest.importorskip("onnx", reason="needs onnx")
    explained = explain(PORTRAIT, random=1, steps=2)
    (face,) = explained.faces
    assert explained.missing is None
    answer, second = face.face.prediction.likeliest, face.second
    assert [scored.map.name for scored in face.maps][-2:] == [f"grad-cam-{answer}", f"grad-cam-{second}"]
    assert [scored.map.expression for scored in face.maps][-2:] == [answer, second]
    assert all(scored.map.values.min() >= 0 for scored in face.maps)


def test_without_captum_one_line_names_the_extra(stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("captum", "captum.attr"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ddamfn.explain.gradcam", raising=False)
    explained = explain(PORTRAIT, stand_in_weights, random=1, steps=2)
    assert explained.missing is not None
    assert 'pip install "ddamfn[explain]"' in explained.missing
    assert len(explained.faces[0].maps) == 3


def test_weights_that_pytorch_cannot_read_keep_their_own_maps(stand_in_weights: Path) -> None:
    pytest.importorskip("captum", reason="needs captum")
    pytest.importorskip("onnx", reason="needs onnx")
    explainer = Explainer(stand_in_weights, random=1, steps=2)
    assert explainer.missing is not None
    assert explainer.missing.startswith("no Grad-CAM: the network of stand-in cannot be built here")


def test_arguments_are_checked(stand_in_weights: Path) -> None:
    for name, value in (("random", 0), ("steps", 1), ("seed", -1), ("max_faces", 0)):
        with pytest.raises(UsageError, match=f"{name} must be at least"):
            Explainer(stand_in_weights, grad_cam=False, **{name: value})
    with pytest.raises(UnreadableImage):
        explain(b"no image", stand_in_weights, grad_cam=False)


def test_mean_of_scores() -> None:
    assert mean_score([Score(0.2, 0.6), Score(0.4, 1.0)]) == Score(pytest.approx(0.3), pytest.approx(0.8))


def test_command_line_writes_images_and_numbers(
    stand_in_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    (photos / "more").mkdir(parents=True)
    (photos / "a.jpg").write_bytes(PORTRAIT)
    (photos / "b.jpg").write_bytes(b"broken")
    Image.new("RGB", (200, 150), (90, 120, 200)).save(photos / "more" / "a.png")
    words = ["explain", str(photos), "--output", str(out), "--weights", str(stand_in_weights), "--random", "2"]
    assert main([*words, "--no-grad-cam", "--quiet"]) == 1
    said = capsys.readouterr()
    assert "b.jpg" in said.err
    assert "more/a.png: no face" in said.out
    assert "maximum of the heads" in said.out
    assert "(random, mean of 2)" in said.out
    files_there = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    drawn = ["a/face-1-head-1.png", "a/face-1-head-2.png", "a/face-1-maximum.png", "a/face-1.png"]
    assert files_there == [*drawn, "explain.json"]
    report = json.loads((out / "explain.json").read_text())
    assert (report["weights"], report["random"], len(report["images"])) == ("stand-in", 2, 3)
    first, broken, empty = report["images"]
    assert sorted(first["files"]) == drawn
    assert broken["error"]
    assert (empty["faces"], empty["files"]) == ([], [])
    with Image.open(out / "a" / "face-1.png") as panel:
        assert panel.format == "PNG"


def test_equal_names_get_folders_of_their_own(stand_in_weights: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "face.jpg").write_bytes(PORTRAIT)
    words = ["explain", str(tmp_path / "one" / "face.jpg"), str(tmp_path / "two" / "face.jpg")]
    words += ["--output", str(tmp_path / "out"), "--weights", str(stand_in_weights), "--random", "1"]
    assert main([*words, "--no-grad-cam", "--quiet"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["explain.json", "face", "face-2"]


@pytest.mark.parametrize("words", [["--random", "0"], ["--seed", "-1"], ["--max-faces", "0"]])
def test_wrong_arguments_are_status_two(words: list[str], stand_in_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PORTRAIT)
    start = ["explain", str(tmp_path / "a.jpg"), "--output", str(tmp_path / "out"), "--weights", str(stand_in_weights)]
    try:
        status = main([*start, *words])
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    assert status == 2

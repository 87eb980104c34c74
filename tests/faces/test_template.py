import dataclasses

import numpy as np
import pytest

from ddamfn.errors import ConfigError
from ddamfn.faces import TEMPLATES, Alignment


def test_arcface_points_are_the_published_ones() -> None:
    expected = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    np.testing.assert_allclose(Alignment("arcface").points(), [expected], atol=1e-12)


def test_the_frontal_pose_is_the_middle_one_of_five() -> None:
    assert TEMPLATES["ddamfn_five_pose"].shape == (5, 5, 2)
    np.testing.assert_array_equal(TEMPLATES["ddamfn_five_pose"][2], TEMPLATES["ddamfn_frontal"])


def test_the_poses_mirror_each_other() -> None:
    poses = TEMPLATES["ddamfn_five_pose"]
    for left, right in ((0, 4), (1, 3)):
        mirrored = poses[right][[1, 0, 2, 4, 3]] * [-1, 1] + [112.4, 0]
        distance = np.linalg.norm(mirrored - poses[left], axis=1)
        # The published right profile has one corner of the mouth 8 px further out than its mirror image.
        distance[3] -= 8 if right == 4 else 0
        assert np.abs(distance).max() < 0.1


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_left_eye_of_the_viewer_comes_first(template: str) -> None:
    for left_eye, right_eye, nose, left_corner, right_corner in Alignment(template).points():
        assert left_eye[0] < right_eye[0]
        assert left_corner[0] < right_corner[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_corner[1], right_corner[1])


def test_a_margin_pulls_the_points_to_the_center() -> None:
    plain, wide = Alignment("arcface").points(), Alignment("arcface", margin=0.25).points()
    np.testing.assert_allclose((wide - 56) * 1.25, plain - 56, atol=1e-12)


def test_the_points_scale_with_the_side() -> None:
    np.testing.assert_allclose(Alignment("arcface", 0.1, 224).points(), Alignment("arcface", 0.1).points() * 2)


def test_templates_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        TEMPLATES["arcface"][0, 0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        Alignment("arcface").margin = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("imagenet",), "unknown alignment template 'imagenet': choose one of arcface"),
        (("arcface", -1.0), "margin must be above -1"),
        (("arcface", float("nan")), "margin must be above -1"),
        (("arcface", float("inf")), "margin must be above -1"),
        (("arcface", 0.0, 0), "side must be at least 1 px"),
    ],
)
def test_wrong_settings_are_refused(arguments: tuple[str, float, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Alignment(*arguments)

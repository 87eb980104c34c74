from dataclasses import replace

import numpy as np

from ddamfn.explain.maps import FaceMap, attention_maps, center_map, random_maps
from ddamfn.results import Face


def test_the_heads_and_their_maximum(explained_face: Face) -> None:
    maps = attention_maps(explained_face)
    assert [entry.name for entry in maps] == ["head-1", "head-2", "maximum"]
    assert all(entry.expression == "happiness" for entry in maps)
    assert explained_face.attention is not None
    np.testing.assert_array_equal(maps[2].values, np.maximum(*explained_face.attention))
    assert attention_maps(replace(explained_face, attention=None)) == []


def test_flat_maps_are_known() -> None:
    assert FaceMap("a", "a", "fear", np.full((7, 7), 0.5, np.float32)).flat
    assert not FaceMap("a", "a", "fear", center_map()).flat


def test_the_center_is_highest_and_symmetric() -> None:
    hill = center_map()
    assert np.unravel_index(hill.argmax(), hill.shape) == (3, 3)
    np.testing.assert_allclose(hill, hill[::-1])
    np.testing.assert_allclose(hill, hill.T)


def test_random_maps_follow_their_generator() -> None:
    first, again = (random_maps(3, np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])

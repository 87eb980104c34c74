"""Synthetic faces and data sets: known expressions and landmarks, and no rights to clear.

They replace photographs wherever a test or an example needs a data set. Skin, hair, light, pose, sharpness and noise
vary at random; brows, lids, nose and mouth follow the expression. The same generator state gives the same images.
Accuracy on these drawings says nothing about photographs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ddamfn.synthetic.face import synthetic_face
from ddamfn.synthetic.layouts import (
    write_synthetic_affectnet,
    write_synthetic_ckplus,
    write_synthetic_fer2013,
    write_synthetic_ferplus,
    write_synthetic_folder,
    write_synthetic_rafdb,
    write_synthetic_table,
)
from ddamfn.synthetic.person import Person, sample_person

__all__ = [
    "LAYOUTS",
    "Person",
    "sample_person",
    "synthetic_face",
    "write_synthetic_affectnet",
    "write_synthetic_ckplus",
    "write_synthetic_fer2013",
    "write_synthetic_ferplus",
    "write_synthetic_folder",
    "write_synthetic_rafdb",
    "write_synthetic_table",
]

LAYOUTS: dict[str, Callable[[Path, int, np.random.Generator], Path]] = {
    "affectnet": write_synthetic_affectnet,
    "affectnet-manual": partial(write_synthetic_affectnet, layout="manual"),
    "ckplus": write_synthetic_ckplus,
    "fer2013": write_synthetic_fer2013,
    "ferplus": write_synthetic_ferplus,
    "ferplus-zip": partial(write_synthetic_ferplus, zipped=True),
    "folder": write_synthetic_folder,
    "rafdb": write_synthetic_rafdb,
    "table": write_synthetic_table,
}
"""Name of a layout -> its writer, called with the folder, the images per class in train, and a generator."""

"""Drawn faces and drawn data sets: known expressions and landmarks, and no rights to clear.

They stand in for photographs wherever a test or an example needs a data set. Skin, hair, light, pose, sharpness and
noise vary by chance; brows, lids, nose and mouth follow the expression. Everything comes from the generator that is
handed in, so the same seed draws the same pictures. A network that reads drawings well says nothing about photographs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ddamfn.synthetic.face import drawn_face
from ddamfn.synthetic.layouts import (
    write_drawn_affectnet,
    write_drawn_ckplus,
    write_drawn_fer2013,
    write_drawn_ferplus,
    write_drawn_folder,
    write_drawn_rafdb,
    write_drawn_table,
)
from ddamfn.synthetic.person import Person, sample_person

__all__ = [
    "LAYOUTS",
    "Person",
    "drawn_face",
    "sample_person",
    "write_drawn_affectnet",
    "write_drawn_ckplus",
    "write_drawn_fer2013",
    "write_drawn_ferplus",
    "write_drawn_folder",
    "write_drawn_rafdb",
    "write_drawn_table",
]

LAYOUTS: dict[str, Callable[[Path, int, np.random.Generator], Path]] = {
    "affectnet": write_drawn_affectnet,
    "affectnet-manual": partial(write_drawn_affectnet, layout="manual"),
    "ckplus": write_drawn_ckplus,
    "fer2013": write_drawn_fer2013,
    "ferplus": write_drawn_ferplus,
    "ferplus-zip": partial(write_drawn_ferplus, zipped=True),
    "folder": write_drawn_folder,
    "rafdb": write_drawn_rafdb,
    "table": write_drawn_table,
}
"""Name of a layout -> its writer, called with the folder, the pictures a class in train, and a generator."""

"""From the bytes of an image to aligned crops of its faces: decode, detect, align, preprocess.

Coordinates are continuous pixels throughout: the image's upper left corner is (0, 0), x runs right, y runs down, and
the center of the first pixel is (0.5, 0.5). Nothing here needs PyTorch or OpenCV.
"""

from ddamfn.faces.align import TEMPLATES, Alignment, Crop, align, plain_resize, similarity, warp
from ddamfn.faces.decode import MAX_PIXELS, ChannelOrder, ImageInput, decode
from ddamfn.faces.light import Stretch
from ddamfn.faces.preprocessing import Preprocessing, normalize, preprocess
from ddamfn.faces.retinaface import NETWORK_SHA256, Detection, RetinaFace
from ddamfn.faces.search import FIRST_SIDE_PX, DetectionMode

__all__ = [
    "FIRST_SIDE_PX",
    "MAX_PIXELS",
    "NETWORK_SHA256",
    "TEMPLATES",
    "Alignment",
    "ChannelOrder",
    "Crop",
    "Detection",
    "DetectionMode",
    "ImageInput",
    "Preprocessing",
    "RetinaFace",
    "Stretch",
    "align",
    "decode",
    "normalize",
    "plain_resize",
    "preprocess",
    "similarity",
    "warp",
]

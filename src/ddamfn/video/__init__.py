"""Video and camera: from frames to tracked faces. Needs PyAV (`pip install "ddamfn[video]"`).

`read_video` is the entry point: it decodes, detects, classifies and tracks on all cores in constant memory and yields
one `FrameResult` per frame. Nothing here needs PyTorch.
"""

from ddamfn.video.annotated import ANNOTATED_SUFFIXES, AnnotatedVideo
from ddamfn.video.cut import VideoInfo
from ddamfn.video.frames import FrameResult, frame_columns
from ddamfn.video.reading import DEFAULT_SMOOTHING_S, VideoReading, longest_gap_s, read_video
from ddamfn.video.timeline import Timeline
from ddamfn.video.tracking import Smoother, Tracker

__all__ = [
    "ANNOTATED_SUFFIXES",
    "DEFAULT_SMOOTHING_S",
    "AnnotatedVideo",
    "FrameResult",
    "Smoother",
    "Timeline",
    "Tracker",
    "VideoInfo",
    "VideoReading",
    "frame_columns",
    "longest_gap_s",
    "read_video",
]

"""Results of reading a video: one per frame, in the form of an image's result."""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from ddamfn.drawing import annotate
from ddamfn.results import Face, ImageResult, mark, row_columns

# A millionth of a second: containers count in coarser ticks.
_TIME_DIGITS = 6


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """What was read from one frame.

    Attributes:
        image: the frame read as an image: source, size, faces, and the pixels if they are kept.
        index: number of the frame, counted from the first one that was decoded; with a start that is not the file's.
        time_s: seconds from the start of the file, from the container's timestamps.
        tracks: for each face the number that it keeps from frame to frame, from 1; None for each without tracking.
    """

    image: ImageResult
    index: int
    time_s: float
    tracks: tuple[int | None, ...] = ()

    @property
    def source(self) -> str:
        """The video's path, or `camera 0`."""
        return self.image.source

    @property
    def faces(self) -> list[Face]:
        """The faces by falling detection score; their predictions are smoothed if that was asked for."""
        return self.image.faces

    def to_dict(self, *, attention: bool = False) -> dict[str, Any]:
        """Return plain numbers, strings and lists, ready for JSON.

        Args:
            attention: add each face's attention maps.
        """
        plain = self.image.to_dict(attention=attention)
        faces = [{"track": track} | face for track, face in zip(self.tracks, plain.pop("faces"), strict=True)]
        head = {"source": plain.pop("source"), "frame": self.index, "time_s": round(self.time_s, _TIME_DIGITS)}
        return head | plain | {"faces": faces}

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one flat row per face, with the columns of `frame_columns`.

        A frame without a face is one row whose face columns are None: no frame is lost.
        """
        head = {"source": self.source, "frame": self.index, "time_s": round(self.time_s, _TIME_DIGITS)}
        rows = []
        for track, row in zip(self.tracks or (None,), self.image.to_rows(), strict=True):
            row.pop("source")
            row.pop("error")
            rows.append({**head, "track": track, **row})
        return rows

    def plot(self) -> Image.Image:
        """Draw the faces' boxes, track numbers, expressions and confidences into a copy of the frame.

        Returns:
            An RGB image; all frames of a video give the same size.

        Raises:
            ValueError: the frame's pixels were not kept.
        """
        image = self.image.image
        if image is None:
            raise ValueError("the frames were not kept: read with read_video(..., keep_images=True)")
        tags = ["" if track is None else str(track) for track in self.tracks]
        marks = [mark(face, tag) for face, tag in zip(self.faces, tags, strict=True)]
        return annotate(image, marks, keep_size=True)


def frame_columns(classes: tuple[str, ...]) -> list[str]:
    """Column names of `FrameResult.to_rows`, in order: those of an image's rows, with frame, time and track.

    Args:
        classes: the weights' expressions; each becomes `p_<name>`.
    """
    of_a_face = [name for name in row_columns(classes) if name not in ("source", "error")]
    return ["source", "frame", "time_s", "track", *of_a_face]

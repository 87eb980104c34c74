"""`ddamfn predict` for a video or a camera: a result a frame, an annotated video, a timeline."""

import argparse
import contextlib
import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.args import moment, positive_integer, seconds
from ddamfn.cli.io import (
    check_output,
    ending_on_sigterm,
    naming_the_file,
    number,
    open_output,
    output_format,
    plain,
    same_file,
)
from ddamfn.cli.progress import Reporter
from ddamfn.errors import UnreadableVideo, UsageError

if TYPE_CHECKING:
    from ddamfn.video import AnnotatedVideo, FrameResult, Timeline, VideoReading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only a video or a camera has."""
    group = parser.add_argument_group("video and camera", 'one a call; needs PyAV: pip install "ddamfn[video]"')
    group.add_argument("--every", type=positive_integer, metavar="N", help="read only every Nth frame")
    group.add_argument("--start", type=moment, metavar="TIME", help="seconds, m:ss or h:mm:ss from the file's start")
    group.add_argument("--end", type=moment, metavar="TIME", help="stop before this time; of a camera, after it")
    group.add_argument("--track", action="store_true", help="number the faces, the same from frame to frame")
    group.add_argument(
        "--smooth",
        type=seconds,
        metavar="S",
        help="time constant of smoothing a track's probabilities; 0 for none (default: 0.5; implies --track)",
    )
    group.add_argument("--timeline", metavar="PNG", help="draw each track's probabilities over time (implies --track)")


def run(args: argparse.Namespace, source: str | int) -> int:
    """Read the video and write its results as they come.

    Args:
        args: the command's arguments.
        source: the video's path, or the camera's number.

    Returns:
        0, or 1 if the file is broken somewhere.

    Raises:
        DdamfnError: for arguments that make no sense, and for a video that cannot be opened.
    """
    kind = output_format(args)
    _check(args, kind, source)

    from ddamfn.recognizer import Recognizer
    from ddamfn.video import DEFAULT_SMOOTHING_S, read_video

    recognizer = Recognizer(
        args.weights,
        min_detection_score=args.min_detection_score,
        max_faces=args.max_faces,
        num_threads=1,
        min_precision=args.min_precision,
    )
    with (
        ending_on_sigterm(),
        read_video(
            source,
            recognizer,
            every=args.every or 1,
            start_s=args.start,
            end_s=args.end,
            track=args.track or bool(args.smooth) or args.timeline is not None,
            smooth_s=DEFAULT_SMOOTHING_S if args.smooth is None else args.smooth,
            keep_images=args.annotate is not None,
            keep_crops=args.timeline is not None,
            batch_size=args.batch_size,
        ) as reading,
    ):
        return _read_all(args, kind, reading, recognizer.card.labels)


def _read_all(
    args: argparse.Namespace,
    kind: str,
    reading: "VideoReading",
    classes: tuple[str, ...],
) -> int:
    from ddamfn.cli.writers import make_writer

    tally, broken = _Tally(), None
    with Reporter(reading.info.frames, quiet=args.quiet, noun="frames") as reporter:
        # What cannot be decoded at all ends here, before any file is begun.
        frames = chain((next(reading),), reading)
        with open_output(args.output) as stream, contextlib.ExitStack() as files:
            writer = make_writer(kind, stream, classes, attention=args.attention, frames=True)
            # Each is finished whatever happens, the others' failures and Ctrl-C included.
            files.callback(writer.close)
            annotated, timeline = (
                _open_annotated(args, reading, reporter, files),
                _open_timeline(args, reading, classes, files),
            )
            try:
                for frame in frames:
                    writer.write(frame)
                    if annotated is not None:
                        annotated.write(frame)
                    if timeline is not None:
                        timeline.add(frame)
                    tally.add(frame)
                    reporter.advance()
            except UnreadableVideo as error:
                broken = str(error)
        if broken is not None:
            reporter.message(plain(broken))
        if not args.quiet:
            reporter.message(f"{tally} ({reporter.rate:.1f} frames/s)")
    return 0 if broken is None else 1


def _open_annotated(
    args: argparse.Namespace, reading: "VideoReading", reporter: Reporter, files: contextlib.ExitStack
) -> "AnnotatedVideo | None":
    from ddamfn.video import AnnotatedVideo

    if args.annotate is None:
        return None
    annotated = AnnotatedVideo(args.annotate, reading.info.rate / (args.every or 1))
    files.callback(annotated.close)
    if not annotated.is_h264:
        reporter.message(f"{args.annotate}: this build of PyAV cannot write H.264, so it is {annotated.encoder}")
    return annotated


def _open_timeline(
    args: argparse.Namespace, reading: "VideoReading", classes: tuple[str, ...], files: contextlib.ExitStack
) -> "Timeline | None":
    from ddamfn.video import Timeline, longest_gap_s

    if args.timeline is None:
        return None
    timeline = Timeline(classes, longest_gap_s(reading.info, args.every or 1))
    files.callback(_save, timeline, args.timeline)
    return timeline


def _save(timeline: "Timeline", path: str) -> None:
    with naming_the_file(path):
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        timeline.draw().save(partial, format="PNG")
        partial.replace(target)


def _check(args: argparse.Namespace, kind: str, source: str | int) -> None:
    """Refuse what cannot work before the video is opened."""
    from ddamfn.video.annotated import ANNOTATED_SUFFIXES

    check_output(args, kind)
    if args.attention and kind not in ("json", "jsonl"):
        raise UsageError("--attention adds the maps of a video to --format json or jsonl: name one of these")
    if args.annotate is not None and os.path.splitext(args.annotate)[1].lower() not in ANNOTATED_SUFFIXES:
        raise UsageError(f"--annotate for a video is a file that ends in {', '.join(ANNOTATED_SUFFIXES)}")
    if args.timeline is not None and not args.timeline.lower().endswith(".png"):
        raise UsageError(f"--timeline is an image that ends in .png, not {args.timeline!r}")
    written = {name: getattr(args, name) for name in ("output", "annotate", "timeline")}
    named = {f"--{name}": path for name, path in written.items() if path is not None}
    for option, path in named.items():
        if os.path.isdir(path):
            raise UsageError(f"{option} must be a file, and {path!r} is a folder")
        if isinstance(source, str) and same_file(path, source):
            raise UsageError(f"{option} {path!r} is the video to read: choose another file")
    if len({os.path.realpath(path) for path in named.values()}) < len(named):
        raise UsageError(f"{' and '.join(named)} name one file: give each its own")


class _Tally:
    """Counts what the summary tells."""

    def __init__(self) -> None:
        self.frames = self.faces = self.uncertain = self.faceless = self.tracks = 0
        self.last_s = 0.0

    def add(self, frame: "FrameResult") -> None:
        from ddamfn.results import UNCERTAIN

        self.frames += 1
        self.faces += len(frame.faces)
        self.uncertain += sum(face.expression == UNCERTAIN for face in frame.faces)
        self.faceless += not frame.faces
        self.tracks = max(self.tracks, *(track or 0 for track in frame.tracks), 0)
        self.last_s = frame.time_s

    def __str__(self) -> str:
        parts = [f"{number(self.frames, 'frame')} to {self.last_s:.2f} s", number(self.faces, "face")]
        parts += [number(self.tracks, "track")] if self.tracks else []
        parts += [f"{self.uncertain:,} uncertain"] if self.uncertain else []
        parts += [f"{self.faceless:,} without a face"] if self.faceless else []
        return ", ".join(parts)

"""`ddamfn predict` for a video or a camera: one result per frame, an annotated video, a timeline."""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.io import (
    check_output,
    ending_on_sigterm,
    open_output,
    output_format,
    plain,
    same_file,
    write_errors,
)
from ddamfn.cli.progress import ItemProgress
from ddamfn.errors import MissingExtra, UnreadableVideo, UsageError
from ddamfn.files import atomic_writer

if TYPE_CHECKING:
    from ddamfn.cli.writers import Tally, Writer
    from ddamfn.recognizer import Recognizer
    from ddamfn.video import AnnotatedVideo, FrameResult, Timeline, VideoReading


def run(args: argparse.Namespace, source: str | int) -> int:
    """Read a video's path or a camera's number and write the results as they come; return 1 for a broken file."""
    kind = output_format(args)
    _check(args, kind, source)

    from ddamfn.recognizer import Recognizer

    recognizer = Recognizer(
        args.weights,
        min_detection_score=args.min_detection_score,
        max_faces=args.max_faces,
        num_threads=1,
        min_precision=args.min_precision,
        class_prior=args.class_prior,
        providers=args.provider,
    )
    with ending_on_sigterm(), _open(args, source, recognizer) as reading:
        return _read_all(args, kind, reading, recognizer.card.labels)


def read_in_turn(
    args: argparse.Namespace,
    source: str,
    recognizer: "Recognizer",
    writer: "Writer",
    progress: ItemProgress,
    marked: Path | None,
) -> bool:
    """Read a video among other sources, and write its frames with the others' results; return whether it is whole.

    With `marked` its frames are also written there with their faces marked.
    """
    from ddamfn.cli.writers import Tally
    from ddamfn.results import ImageResult

    tally = Tally("frame")
    with contextlib.ExitStack() as files:
        try:
            reading = files.enter_context(_open(args, source, recognizer))
            frames = chain((next(reading),), reading)
        except (UnreadableVideo, UsageError, MissingExtra) as error:
            reason = str(error).removeprefix(f"{source}: ")
            writer.write(ImageResult(source, None, None, error=reason, classes=recognizer.card.labels))
            progress.message(f"{plain(source)}: {plain(reason)}")
            return False
        takers: list[Callable[[FrameResult], object]] = [writer.write]
        if marked is not None:
            takers.append(_open_annotated(str(marked), args, reading, progress, files).write)
        broken = _hand_on(frames, takers, tally, progress)
    if broken is not None:
        progress.message(plain(broken))
    if not args.quiet:
        progress.message(f"{plain(source)}: {tally}")
    return broken is None


def _open(args: argparse.Namespace, source: str | int, recognizer: "Recognizer") -> "VideoReading":
    from ddamfn.faces import FIRST_SIDE_PX
    from ddamfn.video import DEFAULT_SMOOTHING_S, read_video

    return read_video(
        source,
        recognizer,
        every=args.every or 1,
        start_s=args.start,
        end_s=args.end,
        track=args.track or bool(args.smooth) or args.timeline is not None,
        smooth_s=DEFAULT_SMOOTHING_S if args.smooth is None else args.smooth,
        keep_images=args.annotate is not None,
        keep_crops=args.timeline is not None,
        detection=args.detection or FIRST_SIDE_PX,
        detect_every=args.detect_every or 1,
        batch_size=args.batch_size,
    )


def _read_all(
    args: argparse.Namespace,
    kind: str,
    reading: "VideoReading",
    classes: tuple[str, ...],
) -> int:
    from ddamfn.cli.writers import Tally, make_writer
    from ddamfn.video import frame_columns

    tally = Tally("frame")
    with ItemProgress(reading.info.frames, quiet=args.quiet, noun="frames") as progress:
        # What cannot be decoded at all ends here, before any file is begun.
        frames = chain((next(reading),), reading)
        with open_output(args.output) as stream, contextlib.ExitStack() as files:
            writer = make_writer(kind, stream, frame_columns(classes), attention=args.attention, frames=True)
            # Each is finished whatever happens, the others' failures and Ctrl-C included.
            files.enter_context(writer.finishing())
            takers: list[Callable[[FrameResult], object]] = [writer.write]
            if args.annotate is not None:
                takers.append(_open_annotated(args.annotate, args, reading, progress, files).write)
            if args.timeline is not None:
                takers.append(_open_timeline(args, reading, classes, files).add)
            broken = _hand_on(frames, takers, tally, progress)
        if broken is not None:
            progress.message(plain(broken))
        if not args.quiet:
            progress.message(f"{tally} ({progress.rate:.1f} frames/s)")
    return 0 if broken is None else 1


def _hand_on(
    frames: "Iterable[FrameResult]",
    takers: "list[Callable[[FrameResult], object]]",
    tally: "Tally",
    progress: ItemProgress,
) -> str | None:
    """Hand each frame to all as it comes; return where and how the file is broken, if it is."""
    try:
        for frame in frames:
            for take in takers:
                take(frame)
            tally.add(frame.faces)
            tally.tracks = max(tally.tracks, *(track or 0 for track in frame.tracks), 0)
            tally.end_s = frame.time_s
            progress.advance()
    except UnreadableVideo as error:
        return str(error)
    return None


def _open_annotated(
    path: str,
    args: argparse.Namespace,
    reading: "VideoReading",
    progress: ItemProgress,
    files: contextlib.ExitStack,
) -> "AnnotatedVideo":
    from ddamfn.video import AnnotatedVideo

    annotated = AnnotatedVideo(path, reading.info.rate / (args.every or 1))
    files.callback(annotated.close)
    if not annotated.is_h264:
        progress.message(f"{path}: this build of PyAV cannot write H.264, so it is {annotated.encoder}")
    return annotated


def _open_timeline(
    args: argparse.Namespace, reading: "VideoReading", classes: tuple[str, ...], files: contextlib.ExitStack
) -> "Timeline":
    from ddamfn.video import Timeline, longest_gap_s

    timeline = Timeline(classes, longest_gap_s(reading.info, args.every or 1))
    files.callback(_save, timeline, args.timeline)
    return timeline


def _save(timeline: "Timeline", path: str) -> None:
    with write_errors(path), atomic_writer(os.path.realpath(path)) as stream:
        timeline.draw().save(stream, format="PNG")


def _check(args: argparse.Namespace, kind: str, source: str | int) -> None:
    """Refuse invalid combinations before the video is opened."""
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

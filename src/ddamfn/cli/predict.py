"""`ddamfn predict`: images to expressions as table, JSON, CSV, Parquet or images; videos go to `predict_video`."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ddamfn.cli.args import add_class_prior, add_provider, detection, moment, positive_integer, seconds, share
from ddamfn.cli.io import (
    FORMATS,
    STANDARD_INPUT,
    VIDEO_SUFFIXES,
    Sources,
    base_folder,
    check_output,
    ending_on_sigterm,
    expand_glob,
    is_folder,
    number,
    open_output,
    output_format,
    plain,
    same_file,
    write_errors,
)
from ddamfn.cli.progress import ItemProgress
from ddamfn.cli.videos import find_videos
from ddamfn.errors import UsageError
from ddamfn.files import fitting_name
from ddamfn.formats import IMAGE_SUFFIXES, unread_kind

if TYPE_CHECKING:
    from ddamfn.cli.writers import Tally, Writer
    from ddamfn.distributed.finished import Finished
    from ddamfn.recognizer import Recognizer
    from ddamfn.results import ImageResult

_EPILOG = """\
A folder is searched to the bottom; "-" reads one image from standard input. One named image gives one JSON object,
anything else a list ("json") or a line each ("jsonl"). An image without a face is a result with no faces. A file that
cannot be read is one line on standard error and has "error" in the output; the others go on, and the exit status is 1.
What a folder holds besides images is counted by ending in the summary. Nothing is fetched from an address, unless you
name one as SOURCE or DIR (s3://bucket/photos) and --output is a folder.
With a folder (faces/) as --output the results are Parquet files of --shard-images images each, and the same command
goes on where a run was stopped. With --ray the machines of a Ray cluster share the work.
With --min-precision .9 at least nine of ten answers were right on validation images (lower end of the 95 % interval);
the other faces are "uncertain" and keep the likeliest expression's confidence and all probabilities.
--class-prior neutral=.3 says that three of ten faces are neutral, where that is a third in training: probabilities
then follow Bayes' rule. It cannot be combined with --min-precision, which was measured under the mix of training.
Images and videos are read in turn; a camera is named by its number, alone; videos in a folder are left out. Ctrl-C
leaves complete files.
"""
# What Pillow writes without loss of color; an image in any other format is annotated as PNG.
_ANNOTATED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "predict",
        description="Finds the faces in images, videos or a camera and reads their expressions.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="image, video, folder, glob in quotes, - for an image on stdin, or a camera's number",
    )
    _add_output_arguments(parser)
    parser.add_argument(
        "--min-detection-score", type=share, default=0.5, metavar="S", help="leave out faces detected with less"
    )
    parser.add_argument("--max-faces", type=positive_integer, metavar="N", help="only the N surest faces of an image")
    parser.add_argument(
        "--detection",
        type=detection,
        metavar="auto|full|PIXELS",
        help="look again where no face was found, or a small or turned one (auto); at every pixel (full); or once, "
        "with the longer side shrunk to PIXELS (default: auto; for videos 960)",
    )
    parser.add_argument(
        "--min-precision",
        type=share,
        metavar="P",
        help='answer "uncertain" where less confidence would leave fewer than the share P of the answers right',
    )
    add_class_prior(parser)
    parser.add_argument(
        "--batch-size", type=positive_integer, default=16, metavar="N", help="faces classified together"
    )
    parser.add_argument(
        "--no-shrink-on-load",
        action="store_true",
        help="decode large JPEGs whole, not only as large as faces are looked for in them: two to three times slower",
    )
    parser.add_argument("--weights", metavar="NAME_OR_PATH", help="bundled weights or an .onnx file")
    add_provider(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    _add_folder_arguments(parser)
    _add_video_arguments(parser)
    parser.set_defaults(run=run, may_be_addresses=("output",))


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is written and where."""
    parser.add_argument(
        "--format", choices=FORMATS, help="of the results; otherwise by the ending of --output, else a table"
    )
    parser.add_argument(
        "--output",
        metavar="FILE_OR_DIR",
        help="write the results to a file instead of standard output, or to a folder (faces/, s3://bucket/faces) of "
        "Parquet files, where each run goes on with what is not there yet",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a file of CSV or JSON lines that an earlier run has begun"
    )
    parser.add_argument(
        "--annotate",
        metavar="DIR_OR_FILE",
        help="write each image with its faces marked into a folder, one image or a video into a file (.png, .mp4, ...)",
    )
    parser.add_argument(
        "--attention", action="store_true", help="add the attention maps to JSON and to the annotated images"
    )


def _add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only a folder as output has."""
    group = parser.add_argument_group(
        "a folder as --output", 'needs pyarrow, and s3fs for s3://: pip install "ddamfn[parquet]", "ddamfn[s3]"'
    )
    group.add_argument(
        "--shard-images", type=positive_integer, metavar="N", help="images per Parquet file (default: 1000)"
    )
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help='read the images on a Ray cluster, or on one of this machine alone (local): pip install "ddamfn[ray]"',
    )


def _add_video_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only a video or a camera has."""
    group = parser.add_argument_group("video and camera", 'needs PyAV: pip install "ddamfn[video]"')
    group.add_argument("--every", type=positive_integer, metavar="N", help="read only every Nth frame")
    group.add_argument(
        "--detect-every",
        type=positive_integer,
        metavar="N",
        help="look at the whole of every Nth frame read, and in the others only around its faces, which is faster "
        "(default: 1)",
    )
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


def run(args: argparse.Namespace) -> int:
    """Read all images and videos, and write their results as they come; return 1 if one could not be read."""
    if args.output is not None and is_folder(args.output):
        from ddamfn.cli import predict_folder

        return predict_folder.run(args)
    for option in ("ray", "shard_images"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option.replace('_', '-')} needs a folder as --output, such as faces/")
    videos, alone = find_videos(args)
    if args.resume:
        _check_resume(args, bool(videos))
    if alone:
        from ddamfn.cli import predict_video

        return predict_video.run(args, videos[0])
    kind = output_format(args)
    _check(args, kind)
    sources = Sources(args.sources, skip=args.annotate)

    from ddamfn.recognizer import Recognizer

    recognizer = Recognizer(
        args.weights,
        min_detection_score=args.min_detection_score,
        max_faces=args.max_faces,
        detection=args.detection or "auto",
        batch_size=args.batch_size,
        min_precision=args.min_precision,
        class_prior=args.class_prior,
        providers=args.provider,
        shrink_on_load=not args.no_shrink_on_load,
    )
    with ending_on_sigterm():
        return _read_all(args, kind, sources, frozenset(map(str, videos)), recognizer)


def _read_all(
    args: argparse.Namespace, kind: str, sources: Sources, videos: frozenset[str], recognizer: "Recognizer"
) -> int:
    from ddamfn.cli.writers import Tally, make_writer, mixed_columns
    from ddamfn.results import row_columns

    classes, tally, whole = recognizer.card.labels, Tally("image"), list[bool]()
    columns = mixed_columns(classes) if videos else row_columns(classes)
    # Decoding and finding faces share the cores, so the networks are loaded for one thread each.
    of_frames = recognizer.with_num_threads(1) if videos else recognizer
    quiet = args.quiet or sources.single
    # Counting walks the folders once more, which is done for a visible bar alone.
    total = None if quiet or videos or args.resume or not sys.stderr.isatty() else sources.count()
    noun = "images and frames" if videos else "images"
    with ItemProgress(total, quiet=quiet, noun=noun) as progress, _opened(args, kind, columns) as (stream, finished):
        writer = make_writer(
            kind,
            stream,
            columns,
            single=sources.single,
            attention=args.attention,
            mixed=bool(videos),
            begun=args.resume and stream.tell() > 0,
        )
        unfinished: Iterable[str] = sources
        if finished is not None:
            unfinished = (source for source in sources if source not in finished)
            if len(finished) and not quiet:
                progress.message(f"going on after {number(len(finished), 'image')}")
        try:
            for are_videos, group in groupby(unfinished, videos.__contains__):
                if are_videos:
                    whole += _read_videos(args, group, of_frames, writer, progress)
                else:
                    _read_images(args, group, recognizer, writer, tally, progress)
        finally:
            writer.close()
        if not quiet:
            progress.message(_summary(tally, whole, progress, sources))
    return 1 if tally.unreadable or not all(whole) else 0


@contextlib.contextmanager
def _opened(
    args: argparse.Namespace, kind: str, columns: Sequence[str]
) -> Iterator[tuple[BinaryIO, "Finished | None"]]:
    """Open the output, and tell which images it has already."""
    if args.resume:
        from ddamfn.cli.resume import resumed_output

        with resumed_output(args.output, kind, columns, attention=args.attention) as opened:
            yield opened
    else:
        with open_output(args.output) as stream:
            yield stream, None


def _read_images(
    args: argparse.Namespace,
    sources: Iterable[str],
    recognizer: "Recognizer",
    writer: "Writer",
    tally: "Tally",
    progress: ItemProgress,
) -> None:
    for result in _results(sources, recognizer, keep_images=args.annotate is not None):
        writer.write(result)
        tally.add(result.faces, is_readable=result.error is None)
        if result.error is not None:
            progress.message(f"{plain(result.source)}: {plain(result.error)}")
        elif args.annotate is not None:
            target = _annotated_path(result.source, args, _ANNOTATED_SUFFIXES, ".png")
            with write_errors(target):
                result.save(target, attention=args.attention)
        progress.advance()


def _read_videos(
    args: argparse.Namespace, sources: Iterable[str], recognizer: "Recognizer", writer: "Writer", progress: ItemProgress
) -> Iterator[bool]:
    """Read videos one after the other, and yield whether each is whole."""
    from ddamfn.cli.predict_video import read_in_turn
    from ddamfn.video import ANNOTATED_SUFFIXES

    for source in sources:
        marked = _annotated_path(source, args, tuple(ANNOTATED_SUFFIXES), ".mp4") if args.annotate else None
        yield read_in_turn(args, source, recognizer, writer, progress, marked)


def _summary(tally: "Tally", whole: list[bool], progress: ItemProgress, sources: Sources) -> str:
    """Sum a run up: its images, whether each of its videos was whole, and what was left out."""
    if not whole:
        parts = [f"{tally} ({progress.rate:.1f} images/s)"]
    else:
        broken = f", {whole.count(False):,} broken or unreadable" if not all(whole) else ""
        parts = [*([str(tally)] if tally.items else []), number(len(whole), "video") + broken]
    return "; ".join([*parts, *([sources.left_out] if sources.left_out else [])])


def _results(sources: Iterable[str], recognizer: "Recognizer", *, keep_images: bool) -> Iterator["ImageResult"]:
    """Yield the results; standard input is named as the user named it."""
    from dataclasses import replace

    images = (sys.stdin.buffer if source == STANDARD_INPUT else source for source in sources)
    for result in recognizer.predict_many(images, keep_images=keep_images):
        yield replace(result, source=STANDARD_INPUT) if result.source in ("<stdin>", "<file>") else result


def _check(args: argparse.Namespace, kind: str) -> None:
    """Refuse invalid combinations before the first image is read."""
    if args.attention and kind not in ("json", "jsonl") and args.annotate is None:
        raise UsageError("--attention adds the maps to --format json or jsonl, and to --annotate: name one of these")
    check_output(args, kind)
    if args.output is not None and any(
        os.path.exists(entry) and same_file(entry, args.output) for entry in args.sources
    ):
        raise UsageError(f"--output {args.output!r} is one of the images to read: choose another file")
    if args.annotate is not None:
        _check_annotate(args.annotate, args.sources)


def _check_resume(args: argparse.Namespace, has_videos: bool) -> None:
    """Refuse to go on with what cannot be gone on with."""
    from ddamfn.cli.resume import KINDS

    if args.output is None or output_format(args) not in KINDS:
        raise UsageError("--resume goes on with CSV and JSON lines: name such a file as --output, or a folder (faces/)")
    if has_videos or STANDARD_INPUT in args.sources:
        raise UsageError("--resume is for images in files: leave videos, cameras and '-' out")
    if os.path.exists(args.output) and not os.path.isfile(args.output):
        raise UsageError(f"--resume: {args.output!r} is no file that can be read back")


def _check_annotate(path: str, arguments: list[str]) -> None:
    """Refuse a place where annotated images cannot be written: a folder, or, for one image, a file."""
    suffix = os.path.splitext(path)[1].lower()
    is_of_a_file = suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES or unread_kind(b"", path) is not None
    if os.path.isdir(path) or not (os.path.exists(path) or is_of_a_file):
        if same_file(path, base_folder(arguments)):
            raise UsageError(f"--annotate {path!r} holds the images themselves: choose another folder")
        return
    if suffix not in _ANNOTATED_SUFFIXES:
        raise UsageError(
            f"--annotate {path!r}: name a folder, or for one image a file in {', '.join(_ANNOTATED_SUFFIXES)}"
        )
    if not _is_one_file(arguments):
        raise UsageError(f"--annotate {path!r} is one file, and several images may be read: name a folder")
    if same_file(path, arguments[0]):
        raise UsageError(f"--annotate {path!r} is the image to read: choose another file")


def _is_one_file(arguments: list[str]) -> bool:
    """Whether exactly one image is named; a glob counts as what it matches."""
    named = [match for argument in arguments for match in expand_glob(argument) or [argument]]
    return len(named) == 1 and not os.path.isdir(named[0])


def _annotated_path(source: str, args: argparse.Namespace, suffixes: tuple[str, ...], otherwise: str) -> Path:
    """Return where a source is written with its faces: the named file, or its own path below the named folder."""
    place = Path(args.annotate)
    if place.suffix.lower() in _ANNOTATED_SUFFIXES and not place.is_dir():
        return place
    if source == STANDARD_INPUT:
        return place / "stdin.png"
    target = place / os.path.relpath(os.path.abspath(source), base_folder(args.sources))
    if target.suffix.lower() in suffixes:
        return target
    return target.with_name(fitting_name(target.name, otherwise))

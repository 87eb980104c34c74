"""`ddamfn predict` into a folder of shards: resumable, from other file systems, on the machines of a Ray cluster."""

import argparse
import contextlib
import glob
import itertools
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddamfn.adapters import arrow_schema
from ddamfn.cli.io import STANDARD_INPUT, Sources, ending_on_sigterm, number, plain, write_errors
from ddamfn.cli.progress import ItemProgress
from ddamfn.cli.videos import find_videos, video_options
from ddamfn.errors import UsageError
from ddamfn.files import exclusive, is_address

if TYPE_CHECKING:
    from ddamfn.cli.writers import Tally
    from ddamfn.distributed.finished import Finished
    from ddamfn.distributed.shards import Done, Executor, ShardTask

_LOCK = ".lock"
_MESSAGES_PER_BATCH = 20


def run(args: argparse.Namespace) -> int:
    """Read all images that the folder does not hold yet; return 1 if one could not be read."""
    _check(args)
    from ddamfn.distributed.batch import BatchRecognizer
    from ddamfn.distributed.places import open_folder
    from ddamfn.distributed.shards import ShardTask, begin

    sources = Sources(args.sources, takes_addresses=True)
    recognizer = BatchRecognizer(
        _shared(args.weights) if args.ray else args.weights,
        min_detection_score=args.min_detection_score,
        max_faces=args.max_faces,
        detection=args.detection or "auto",
        batch_size=args.batch_size,
        num_threads=1 if args.ray else None,
        min_precision=args.min_precision,
        class_prior=args.class_prior,
        providers=args.provider,
        shrink_on_load=not args.no_shrink_on_load,
    )
    # What cannot be loaded here is refused before a folder is begun.
    recognizer.recognizer  # noqa: B018
    folder = open_folder(args.output)
    place = args.output if is_address(args.output) else os.path.abspath(args.output)
    task = ShardTask(recognizer, place, os.getcwd() if args.ray else "")
    cluster: Executor | None = None
    if args.ray is not None:
        from ddamfn.distributed.cluster import RayExecutor

        cluster = RayExecutor(args.ray, task)
    with ending_on_sigterm(), _alone(args.output):
        finished = begin(folder, recognizer.record())
        return _read(args, sources, finished, task, cluster)


def _read(
    args: argparse.Namespace, sources: Sources, finished: "Finished", task: "ShardTask", cluster: "Executor | None"
) -> int:
    from ddamfn.cli.writers import Tally
    from ddamfn.distributed.shards import SHARD_IMAGES, OneProcess, batches_of, do_batches

    tally, failed = Tally("image"), 0
    with ItemProgress(None, quiet=args.quiet) as progress, _counting(args, finished, progress):
        executor = cluster or OneProcess(task, progress.advance)
        if len(finished) and not args.quiet:
            progress.message(f"going on after {number(len(finished), 'image')}")
        batches = batches_of(sources, finished, args.shard_images or SHARD_IMAGES)
        for done in do_batches(batches, executor):
            if cluster is not None:
                progress.advance(done.images)
            _report(done, tally, progress)
            failed += done.images if done.failure is not None else 0
        if not args.quiet:
            left_out = f"; {sources.left_out}" if sources.left_out else ""
            progress.message(f"{tally} ({progress.rate:.1f} images/s){left_out}")
        if failed:
            progress.message(f"not read yet: {number(failed, 'image')}; the same command goes on")
    return 1 if tally.unreadable or failed else 0


def _report(done: "Done", tally: "Tally", progress: ItemProgress) -> None:
    """Count a batch, and print what went wrong in it."""
    if done.failure is not None:
        progress.message(f"{number(done.images, 'image')} failed together: {plain(done.failure)}")
        return
    tally.items += done.images
    tally.faces += done.faces
    tally.uncertain += done.uncertain
    tally.faceless += done.faceless
    tally.unreadable += len(done.errors)
    for source, error in done.errors[:_MESSAGES_PER_BATCH]:
        progress.message(f"{plain(source)}: {plain(error)}")
    if len(done.errors) > _MESSAGES_PER_BATCH:
        progress.message(f"and {len(done.errors) - _MESSAGES_PER_BATCH:,} more, in the column error")


@contextlib.contextmanager
def _counting(args: argparse.Namespace, finished: "Finished", progress: ItemProgress) -> Iterator[None]:
    """Count the images in a thread meanwhile, for the time left: of millions that takes minutes."""
    ending = threading.Event()

    def count() -> None:
        total = 0
        # What goes wrong here goes wrong where the images are read, and is told there.
        with contextlib.suppress(Exception):
            for source in Sources(args.sources, takes_addresses=True):
                if ending.is_set():
                    return
                total += source not in finished
            progress.set_total(total)

    thread = threading.Thread(target=count, name="ddamfn-count", daemon=True)
    if not args.quiet:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        if not args.quiet:
            thread.join()


@contextlib.contextmanager
def _alone(place: str) -> Iterator[None]:
    """Keep a second run out of a folder of this machine; on other file systems it would do the same work again."""
    if is_address(place):
        yield
        return
    with contextlib.ExitStack() as stack:
        with write_errors(place):
            is_ours = stack.enter_context(exclusive(os.path.join(place, _LOCK)))
        if not is_ours:
            raise UsageError(f"another run writes into {place}: wait for it, or name another folder")
        yield


def _check(args: argparse.Namespace) -> None:
    """Refuse what a folder of shards cannot take, before anything is read."""
    if args.format not in (None, "parquet"):
        raise UsageError(
            f"--output {args.output!r} is a folder, and its files are Parquet: name a file for {args.format}"
        )
    if args.attention or args.annotate is not None:
        option = "--attention" if args.attention else "--annotate"
        raise UsageError(f"{option} goes with a file as --output, and {args.output!r} is a folder")
    if args.resume:
        raise UsageError("--resume is for a file: a run into a folder always goes on where it stopped")
    if STANDARD_INPUT in args.sources:
        raise UsageError("'-' is one image on standard input: name a file as --output for it")
    local = [source for source in args.sources if not is_address(source)]
    given = video_options(args)
    if given or (local and find_videos(argparse.Namespace(**{**vars(args), "sources": local}))[0]):
        raise UsageError(f"videos are not read into a folder such as --output {args.output!r}: name a file")
    gone = next((source for source in local if not (os.path.lexists(source) or glob.has_magic(source))), None)
    if gone is not None:
        raise UsageError(f"no such file or folder: {gone!r}")
    if any(os.path.isdir(source) and os.path.realpath(source) == os.path.realpath(args.output) for source in local):
        raise UsageError(f"--output {args.output!r} holds the images themselves: choose another folder")
    arrow_schema((), "A folder of Parquet files")
    for address in itertools.chain(args.sources, [args.output]):
        if is_address(address):
            from ddamfn.distributed.places import check_address

            check_address(address)


def _shared(weights: str | None) -> str | None:
    """Return weights as every machine finds them: a path is made absolute."""
    return os.path.abspath(weights) if weights is not None and os.path.exists(weights) else weights

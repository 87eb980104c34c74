"""`ddamfn data`: prepare, check and draw data sets, and look after the prepared ones in the cache."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ddamfn.cli.args import add_kind, positive_integer
from ddamfn.cli.io import plain, write_errors
from ddamfn.cli.progress import Bar
from ddamfn.errors import ConfigError, DataError, UsageError

if TYPE_CHECKING:
    from ddamfn.preparation import Prepared
    from ddamfn.preparation.cached import CachedSet

_TEMPLATE = "ddamfn_frontal"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "data",
        description="Works on data sets: FERPlus, RAF-DB, AffectNet, FER2013, CK+, class folders, and tables.",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_prepare(verbs)
    _add_check(verbs)
    _add_draw(verbs)
    _add_cache(verbs)


def _add_prepare(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "prepare",
        help="align every face once",
        description="Finds, aligns and stores the face of every image. A run that was stopped goes on when it is "
        "started again. Nothing is dropped: without a face the whole image is resized, and DST/manifest.csv says so.",
    )
    parser.add_argument("source", metavar="SRC", help="folder or file of the data set")
    parser.add_argument("destination", metavar="DST", help="folder to make")
    add_kind(parser)
    # No choices: the table of templates is imported with ONNX Runtime, and refuses other names by itself.
    parser.add_argument(
        "--template", default=_TEMPLATE, metavar="NAME", help="where the landmarks go, such as arcface (%(default)s)"
    )
    parser.add_argument("--margin", type=float, default=0.0, metavar="M", help="0.1 shows 10%% more around the face")
    parser.add_argument("--workers", type=positive_integer, metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--landmarks-from", metavar="PREPARED", help="use the landmarks of another prepared set of the same images"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=_prepare)


def _add_check(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from ddamfn.data import RULES

    parser = verbs.add_parser(
        "check",
        help="compare counts, find unreadable images and duplicates",
        description="Compares a data set with the official one, reads every image, and looks for wrong label orders, "
        "duplicates across splits, and people in two splits. Exit status 1 if something makes scores wrong.",
    )
    parser.add_argument("root", metavar="ROOT", help="folder or file of the data set")
    add_kind(parser)
    parser.add_argument("--rule", choices=RULES, default=RULES[0], help="vote rule of counts (default: %(default)s)")
    parser.add_argument("--counts-only", action="store_true", help="do not read the images")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of the report (default: text)")
    parser.add_argument("--workers", type=positive_integer, metavar="N", help="threads (default: one per core)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=_check)


def _add_draw(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from ddamfn.synthetic import LAYOUTS

    parser = verbs.add_parser(
        "draw",
        help="draw a small data set of synthetic faces",
        description="Draws faces with known expressions in the layout of a data set: for trying training and "
        "evaluation without photographs, and for tests. The same seed draws the same images.",
    )
    parser.add_argument("destination", metavar="DST", help="folder to make; it must be empty or not exist")
    parser.add_argument("--layout", choices=LAYOUTS, default="folder", help="whose files to imitate (%(default)s)")
    parser.add_argument(
        "--per-class",
        type=positive_integer,
        default=32,
        metavar="N",
        help="images per class in train, half as many in val and test (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which images (%(default)s)")
    parser.set_defaults(run=_draw)


def _add_cache(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "cache",
        help="list and delete what training has prepared",
        description="Lists the prepared images that ddamfn train, study and export keep in the user's cache, the last "
        "used first. They are made again when they are needed.",
    )
    parser.add_argument(
        "--clear",
        nargs="*",
        metavar="NAME",
        help="delete these, named or by their data set's path, or all",
    )
    parser.set_defaults(run=_cache)


def _prepare(args: argparse.Namespace) -> int:
    """Prepare a data set and print what was found; unreadable images are counted, not an error."""
    from ddamfn.data import open_dataset
    from ddamfn.faces import Alignment
    from ddamfn.preparation import prepare

    try:
        alignment = Alignment(args.template, args.margin)
    except ConfigError as error:
        raise UsageError(f"--template, --margin: {error}") from error
    with Bar(quiet=args.quiet, resumes=True) as bar:
        prepared = prepare(
            open_dataset(args.source, args.kind),
            args.destination,
            alignment,
            workers=args.workers,
            progress=bar,
            landmarks_from=args.landmarks_from,
        )
    _print_prepared(prepared)
    return 0


def _print_prepared(prepared: "Prepared") -> None:
    alignment = prepared.alignment
    print(f"{prepared.folder}: {prepared.dataset}, {plain(prepared.note)}")
    print(f"aligned to {alignment.template}, margin {alignment.margin:g}, {alignment.side_px} px")
    for split, row in prepared.counts.items():
        given = f" ({row['given']:,} by the set's own landmarks)" if row["given"] else ""
        print(
            f"  {split:<5} {row['images']:>9,} images: {row['found']:,} aligned{given}, "
            f"{row['resized']:,} without a face and resized, {row['unreadable']:,} unreadable"
        )
    if any(row["unreadable"] for row in prepared.counts.values()):
        print("unreadable images are named in manifest.csv, in the column error")


def _check(args: argparse.Namespace) -> int:
    """Print the report; return 1 for findings that make scores wrong."""
    from ddamfn.data import open_dataset
    from ddamfn.data.doctor import check

    with Bar(quiet=args.quiet) as bar:
        report = check(
            open_dataset(args.root, args.kind),
            rule=args.rule,
            images=not args.counts_only,
            workers=args.workers,
            progress=bar,
        )
    if args.format == "json":
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print("\n".join(plain(line) for line in report.lines()))
    return 0 if report.ok else 1


def _draw(args: argparse.Namespace) -> int:
    """Draw the data set and print its folder."""
    import numpy as np

    from ddamfn.synthetic import LAYOUTS

    destination = Path(args.destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UsageError(f"{destination} is not an empty folder; name a new one, so that nothing is mixed up")
    if args.seed < 0:
        raise UsageError(f"the seed must not be negative, and {args.seed} is")
    with write_errors(destination):
        drawn = LAYOUTS[args.layout](destination, args.per_class, np.random.default_rng(args.seed))
    print(drawn)
    return 0


def _cache(args: argparse.Namespace) -> int:
    """List the cached sets, or delete them; return 1 if one of them stays."""
    from ddamfn.preparation.cached import cached_sets, clear, sets_folder

    found = cached_sets()
    if args.clear is None:
        print(f"{sets_folder()}: {len(found):,} prepared sets, {sum(one.size_bytes for one in found) / 1e6:,.1f} MB")
        for one in found:
            _print_cached(one)
        return 0
    for name in args.clear:
        if not any(_is_called(one, name) for one in found):
            raise UsageError(
                f"no prepared set {name!r} in {sets_folder()}; ddamfn data cache lists their names and data sets"
            )
    failed = 0
    for one in found:
        if not args.clear or any(_is_called(one, name) for name in args.clear):
            try:
                clear(one)
            except DataError as error:
                print(f"ddamfn: {plain(str(error))}", file=sys.stderr)
                failed = 1
            else:
                print(f"deleted: {plain(one.folder.name)}, {one.size_bytes / 1e6:,.1f} MB")
    return failed


def _is_called(one: "CachedSet", name: str) -> bool:
    """Whether a cached set has this name, or was made from the data set at this path."""
    return name == one.folder.name or one.source == str(Path(name).resolve())


def _print_cached(one: "CachedSet") -> None:
    about = f"{one.images:,} images" if one.images else "not complete"
    if one.alignment is not None:
        about += f" of {one.alignment.side_px} px, {one.alignment.template}, margin {one.alignment.margin:g}"
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used_at))
    print(f"  {plain(one.folder.name)}  {one.size_bytes / 1e6:,.1f} MB, used {used}")
    print(f"    {plain(one.source or 'a data set that is not recorded')}: {about}")

"""`ddamfn explain`: maps of where the network looked, drawn on the face and on the image, with their faithfulness."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddamfn.cli.args import positive_integer
from ddamfn.cli.io import STANDARD_INPUT, Sources, plain, write_errors
from ddamfn.cli.progress import ItemProgress
from ddamfn.files import atomic_writer, write_json

if TYPE_CHECKING:
    from ddamfn.explain import Explanation, FaceExplanation

_EPILOG = """\
For each face DIR/IMAGE/ gets face-N.png, all maps on the aligned face with what they scored, and face-N-MAP.png, each
map carried back to the image; DIR/explain.json has the maps' values and all numbers. The heads' own maps are always
there; Grad-CAM of the predicted and the second expression needs pip install "ddamfn[explain]".

deletion   mean probability while pixels are taken away, the map's most important first: small is good
insertion  mean probability while they are put back into a blurred face: large is good
A map is informative where insertion minus deletion exceeds that of the random maps and of a center blob.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "explain",
        description="Explains the expression of each face in images by maps, and compares the maps with random ones.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="image, folder, glob in quotes, or - for stdin")
    parser.add_argument("--output", metavar="DIR", required=True, help="where to write; made if need be")
    parser.add_argument("--weights", metavar="NAME_OR_PATH", help="bundled weights or an .onnx file")
    parser.add_argument("--max-faces", type=positive_integer, metavar="N", help="only the N surest faces of an image")
    parser.add_argument("--no-grad-cam", action="store_true", help="the heads' own maps alone")
    parser.add_argument(
        "--random", type=positive_integer, default=8, metavar="N", help="random maps to compare with (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random maps (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain all images, write the files, and print each face's table; return 1 if an image could not be read."""
    from ddamfn.errors import UnreadableImage
    from ddamfn.explain.explaining import Explainer
    from ddamfn.faces.decode import image_name

    folder = Path(args.output)
    sources = Sources(args.sources, skip=args.output)
    explainer = Explainer(
        args.weights, max_faces=args.max_faces, grad_cam=not args.no_grad_cam, random=args.random, seed=args.seed
    )
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if explainer.missing is not None:
        print(f"ddamfn: {explainer.missing}", file=sys.stderr)
    name = explainer.classifier.card.name
    report: dict[str, Any] = {"weights": name, "random": args.random, "seed": args.seed, "images": []}
    folders, status = _ImageFolders(folder), 0
    with ItemProgress(sources.count(), quiet=args.quiet or sources.single) as progress:
        for source in sources:
            image = sys.stdin.buffer if source == STANDARD_INPUT else source
            try:
                explained = explainer(image)
            except UnreadableImage as error:
                progress.message(f"{plain(source)}: {plain(str(error).removeprefix(f'{image_name(image)}: '))}")
                report["images"].append({"source": source, "error": str(error)})
                status = 1
            else:
                files = _write(explained, folders.of(source))
                report["images"].append(explained.to_dict() | {"source": source, "files": files})
                print("\n".join(_table(explained, source)))
            progress.advance()
        if sources.left_out and not args.quiet:
            progress.message(sources.left_out)
    with write_errors(folder / "explain.json"):
        write_json(folder / "explain.json", report, indent=1)
    print(f"written: {folder / 'explain.json'} and the images beside it")
    return status


class _ImageFolders:
    """A folder for each image under its name; equal names are numbered."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._taken = folder, {"explain.json"}

    def of(self, source: str) -> Path:
        stem = "stdin" if source == STANDARD_INPUT else Path(source).stem
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return self._folder / name


def _write(explained: "Explanation", place: Path) -> list[str]:
    """Draw and write all images of one explanation; return their paths below the output folder."""
    from ddamfn.explain.figures import on_image, panel

    result, written = explained.result, []
    image, size = result.image, (result.height or 0, result.width or 0)
    assert image is not None  # an explanation keeps its image
    for number, face in enumerate(explained.faces, start=1):
        drawings = {f"face-{number}.png": panel(face)}
        drawings |= {
            f"face-{number}-{scored.map.name}.png": on_image(image, face, scored.map, size) for scored in face.maps
        }
        for name, drawing in drawings.items():
            with write_errors(place / name), atomic_writer(place / name, durable=False) as stream:
                drawing.save(stream, format="PNG")
            written.append(f"{place.name}/{name}")
    return written


def _table(explained: "Explanation", source: str) -> list[str]:
    """Describe the faces of one image, a line per map."""
    if not explained.faces:
        return [f"{plain(source)}: no face"]
    lines = []
    for number, face in enumerate(explained.faces, start=1):
        answer, second = face.face.prediction.likeliest, face.second
        lines.append(
            f"{plain(source)}, face {number}: {answer} {face.face.confidence:.1%}, then {second} "
            f"{face.face.probabilities[second]:.1%}"
        )
        lines.append(f"  {'map':<24}{'expression':<12}{'deletion':>9}{'insertion':>11}{'difference':>12}  beats")
        lines += _map_lines(face)
    return lines


def _map_lines(face: "FaceExplanation") -> list[str]:
    from ddamfn.explain.explaining import mean_score

    lines = []
    for scored in face.maps:
        count = len(face.baselines[scored.map.expression].random)
        beats = f"{scored.beats_random} of {count} random{', center' if scored.beats_center else ''}"
        lines.append(
            _line(scored.map.title, scored.map.expression, scored.score, "flat map" if scored.map.flat else beats)
        )
    for name, entry in face.baselines.items():
        lines.append(_line(f"(random, mean of {len(entry.random)})", name, mean_score(entry.random), ""))
        lines.append(_line("(center)", name, entry.center, ""))
    return lines


def _line(title: str, expression: str, score: Any, beats: str) -> str:
    numbers = f"{score.deletion:>9.3f}{score.insertion:>11.3f}{score.difference:>+12.3f}"
    return f"  {title:<24}{expression:<12}{numbers}  {beats}".rstrip()

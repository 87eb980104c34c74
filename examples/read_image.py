"""Read one image: print each face's expression, and save the image with the attention maps beside it.

python examples/read_image.py photo.jpg annotated.png
"""

import argparse
from collections.abc import Sequence

from ddamfn import Recognizer


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the image that the arguments name."""
    parser = argparse.ArgumentParser(description="Reads one image.")
    parser.add_argument("image")
    parser.add_argument("annotated", help="where the annotated image goes")
    parser.add_argument("--weights", help="bundled weights or an .onnx file")
    args = parser.parse_args(arguments)

    result = Recognizer(args.weights).predict(args.image)
    if not result:
        print("no face")
    for face in result:
        left, top, right, bottom = face.bbox
        print(f"{face.expression} {face.confidence:.0%}, from ({left:.2f}, {top:.2f}) to ({right:.2f}, {bottom:.2f})")
        for name, probability in sorted(face.probabilities.items(), key=lambda item: -item[1])[:3]:
            print(f"    {name:<10} {probability:.3f}")
        if face.attention is not None:
            # One map a head on the aligned face, (A, 7, 7); a mean near 0 or 1 means a head that looks nowhere.
            print("    mean attention of each head:", face.attention.mean(axis=(1, 2)).round(3).tolist())
    result.save(args.annotated, attention=True)


if __name__ == "__main__":
    main()

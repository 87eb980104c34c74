"""CK+: the last three frames of every labeled sequence, with the subject of each.

There is no official split. Use `data.dataset.subject_folds`: with the same subject on both sides a network learns
identities instead of expressions.

Source: Lucey et al. 2010; the choice of three frames is the custom of papers on single images (981 of them).
"""

import re
from pathlib import Path

from ddamfn.data.catalog import CKPLUS
from ddamfn.data.dataset import Dataset, FileImages, Sample
from ddamfn.errors import DataError
from ddamfn.formats import IMAGE_SUFFIXES
from ddamfn.labels import canonical

_FRAMES = 3
_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images", "extended-cohn-kanade-images")
_EMOTIONS = ("Emotion", "Emotion_labels/Emotion", "Emotion_labels")
# S005_001_00000011.png: subject, sequence, frame.
_FRAME_NAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})$", re.IGNORECASE)


def is_ckplus(root: Path) -> bool:
    """Tell whether a folder holds CK+: image and emotion folders, or class folders of its last frames."""
    return (_first(root, _IMAGES) is not None and _first(root, _EMOTIONS) is not None) or bool(_class_folders(root))


def open_ckplus(root: Path) -> Dataset:
    """Open CK+ in its official layout, or as class folders of frames with their official names; one split, `all`."""
    images, emotions = _first(root, _IMAGES), _first(root, _EMOTIONS)
    if images is not None and emotions is not None:
        return Dataset(CKPLUS, tuple(_from_sequences(images, emotions)), FileImages(images), "sequences")
    folders = _class_folders(root)
    if not folders:
        raise DataError(f"{root} holds neither cohn-kanade-images with Emotion nor class folders of CK+ frames")
    samples = []
    for folder in folders:
        for path in _frames(folder):
            key, subject = f"{folder.name}/{path.name}", path.name[:4].upper()
            samples.append(Sample(key, "all", label=canonical(folder.name), subject=subject, location=key))
    return Dataset(CKPLUS, tuple(samples), FileImages(root), "class folders")


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _frames(folder: Path) -> list[Path]:
    """List the frames of a folder in order; other files, such as .DS_Store, are ignored."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and _FRAME_NAME.match(p.stem)]
    return sorted(files, key=lambda path: path.name)


def _class_folders(root: Path) -> list[Path]:
    wanted = {name.casefold() for name in CKPLUS.own_classes}
    folders = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name.casefold() in wanted] if root.is_dir() else []
    return folders if folders and all(_frames(folder) for folder in folders) else []


def _from_sequences(images: Path, emotions: Path) -> list[Sample]:
    samples = []
    for note in sorted(emotions.glob("*/*/*_emotion.txt")):
        take = note.parent.relative_to(emotions).as_posix()
        try:
            number = int(float(note.read_text(encoding="utf-8").split()[0]))
        except (OSError, ValueError, IndexError) as error:
            raise DataError(f"{note}: holds no class number ({error}); restore the file") from error
        if number == 0:
            continue  # A neutral take has no apex.
        folder = images / take
        frames = _frames(folder) if folder.is_dir() else []
        if len(frames) < _FRAMES:
            raise DataError(f"{folder} has {len(frames)} frames instead of at least {_FRAMES}; unpack the images again")
        label, subject = CKPLUS.label(number), take.partition("/")[0]
        for path in frames[-_FRAMES:]:
            location = f"{take}/{path.name}"
            samples.append(Sample(path.name, "all", label=label, subject=subject, location=location))
    return samples

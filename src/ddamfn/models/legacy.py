"""Checkpoints of the DDAMFN authors, read into this package's networks.

Source: names and shapes in the files that the authors released.
"""

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddamfn.models.ddamfn import DDAMFN, MFN
from ddamfn.models.inert_pickle import read_inert

_WRAPPERS = ("model_state_dict", "state_dict")

_HEAD = re.compile(r"cat_head(\d+)\.")

# What the authors' network holds and never calls.
_DEAD_ANYWHERE = r"\.conv_dw\.(bn|prelu)\."
_DEAD_IN_DDAMFN = re.compile(_DEAD_ANYWHERE + r"|^cat_head\d+\.CoordAtt\.Linear\.|^bn\.")
_DEAD_IN_MFN = re.compile(_DEAD_ANYWHERE)

# From the authors' names to ours, of their DDAMNet, their MixedFeatureNet, and the parts of both; tried in this order,
# each on the result of the one before.
_DDAMFN_PLACES = (
    (r"^features\.0\.", "trunk.stem."),
    (r"^features\.1\.", "trunk.stem_depthwise."),
    (r"^features\.2\.", "trunk.stage1.0."),
    (r"^features\.3\.model\.", "trunk.stage2."),
    (r"^features\.4\.", "trunk.stage3.0."),
    (r"^features\.5\.model\.", "trunk.stage4."),
    (r"^features\.6\.", "trunk.stage5.0."),
    (r"^features\.7\.model\.", "trunk.stage6."),
    (r"^features\.8\.", "trunk.expand."),
    (r"^cat_head(\d+)\.CoordAtt\.Linear_h\.", r"ddan.heads.\1.rows."),
    (r"^cat_head(\d+)\.CoordAtt\.Linear_w\.", r"ddan.heads.\1.columns."),
    (r"^cat_head(\d+)\.CoordAtt\.", r"ddan.heads.\1.gates."),
    (r"^Linear\.", "ddan.pool."),
    (r"^fc\.", "ddan.classifier."),
)
_MFN_PLACES = (
    (r"^conv1\.", "trunk.stem."),
    (r"^conv2_dw\.", "trunk.stem_depthwise."),
    (r"^conv_23\.", "trunk.stage1.0."),
    (r"^conv_3\.model\.", "trunk.stage2."),
    (r"^conv_34\.", "trunk.stage3.0."),
    (r"^conv_4\.model\.", "trunk.stage4."),
    (r"^conv_45\.", "trunk.stage5.0."),
    (r"^conv_5\.model\.", "trunk.stage6."),
    (r"^conv_6_sep\.", "trunk.expand."),
    (r"^conv_6_dw\.", "pool."),
    (r"^linear\.", "project."),
    (r"^bn\.", "norm."),
)
_PARTS = (
    (r"^(trunk\.stage\d\.\d+)\.conv\.", r"\1.expand."),
    (r"\.conv_dw\.mixed_depthwise_conv\.", ".mix.convs."),
    (r"\.CA\.", ".attend.gates."),
    (r"\.gates\.conv1\.", ".gates.squeeze."),
    (r"\.gates\.bn1\.", ".gates.norm."),
    (r"\.gates\.conv2\.", ".gates.gate_h."),
    (r"\.gates\.conv3\.", ".gates.gate_w."),
    (r"\.bn\.", ".norm."),
    (r"\.prelu\.", ".act."),
)


def load_authors_checkpoint(path: str | os.PathLike[str], *, num_classes: int = 7) -> DDAMFN | MFN:
    """Load a checkpoint of the DDAMFN authors, in evaluation mode, on the CPU; shapes give heads and classes.

    A file is a dictionary with `model_state_dict`, a state dict, or a whole pickled module such as
    `MFN_msceleb.pth`. Pickled code never runs: where `torch.load(weights_only=True)` declines, only tensors are
    taken (see `inert_pickle`). Entries that the authors' network never calls are ignored.

    Classes are in the authors' order: neutral, happiness, sadness, surprise, fear, disgust, anger, contempt (the
    last only with eight classes). Images are RGB, normalized with ImageNet's mean and standard deviation.

    `num_classes` is for an MFN, whose file has no classifier, so that it gets fresh weights; its `trunk` loads into
    `DDAMFN.trunk`. Raises ValueError, in one line, for a damaged file or another network; OSError if it cannot be
    opened.
    """
    path = Path(path)
    entries = _entries(_read(path), path)
    if any(_HEAD.match(name) for name in entries):
        network: DDAMFN | MFN = _empty_ddamfn(entries, path)
        ours = _rename(entries, _DEAD_IN_DDAMFN, _DDAMFN_PLACES, path)
        optional: set[str] = set()
    elif "conv_6_dw.conv.weight" in entries:
        network = MFN(num_classes=num_classes, embedding_dim=_rows(entries, "linear.weight", path))
        ours = _rename(entries, _DEAD_IN_MFN, _MFN_PLACES, path)
        optional = {"classifier.weight", "classifier.bias"}
    else:
        raise ValueError(f"{path}: holds neither a DDAMNet (no cat_head0) nor a MixedFeatureNet (no conv_6_dw)")
    _fill(network, ours, optional, path)
    return network.eval()


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError:
        return read_inert(path)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: cannot be read as a PyTorch file: {reason}") from error


def _entries(loaded: Any, path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a file's content, without the prefix of `DataParallel`."""
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path}: holds no named weights")
    entries = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if entries and all(name.startswith("module.") for name in entries):
        entries = {name.removeprefix("module."): value for name, value in entries.items()}
    return entries


def _empty_ddamfn(entries: Mapping[str, Tensor], path: Path) -> DDAMFN:
    heads = {int(match[1]) for name in entries if (match := _HEAD.match(name))}
    if heads != set(range(len(heads))):
        raise ValueError(f"{path}: its heads are numbered {sorted(heads)}, with gaps")
    return DDAMFN(num_classes=_rows(entries, "fc.weight", path), num_heads=len(heads))


def _rows(entries: Mapping[str, Tensor], name: str, path: Path) -> int:
    """Return a matrix's number of rows, which is a width of the network."""
    if name not in entries or entries[name].ndim != 2:
        raise ValueError(f"{path}: holds no matrix {name}, from which the network's width is read")
    return entries[name].shape[0]


def _rename(
    entries: Mapping[str, Tensor], dead: re.Pattern[str], places: tuple[tuple[str, str], ...], path: Path
) -> dict[str, tuple[str, Tensor]]:
    """Map our names to the authors' names and tensors, without the dead entries."""
    renamed: dict[str, tuple[str, Tensor]] = {}
    for theirs, tensor in entries.items():
        if dead.search(theirs):
            continue
        ours = theirs
        for pattern, replacement in (*places, *_PARTS):
            ours = re.sub(pattern, replacement, ours)
        if ours in renamed:
            raise ValueError(f"{path}: {theirs} and {renamed[ours][0]} would both become {ours}")
        renamed[ours] = theirs, tensor
    return renamed


def _fill(network: DDAMFN | MFN, ours: Mapping[str, tuple[str, Tensor]], optional: set[str], path: Path) -> None:
    expected = network.state_dict()
    problems = [f"unexpected {theirs}" for name, (theirs, _) in ours.items() if name not in expected]
    problems += [f"nothing for {name}" for name in expected if name not in ours and name not in optional]
    problems += [
        f"{ours[name][0]} has shape {tuple(ours[name][1].shape)} in place of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in ours and ours[name][1].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{path}: does not fit {type(network).__name__}: {', '.join(problems[:3])}{more}")
    network.load_state_dict({name: tensor for name, (_, tensor) in ours.items()}, strict=not optional)

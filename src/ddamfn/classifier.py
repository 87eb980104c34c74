"""The ONNX classifier: aligned crops to logits and attention maps."""

import os
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import UsageError, WeightsError
from ddamfn.faces import Alignment, Preprocessing, Stretch, normalize, preprocess
from ddamfn.faces.sessions import Providers, open_session
from ddamfn.weights import Card, find_weights, verify

if TYPE_CHECKING:
    import onnxruntime

# Faces that the network sees in one run. Measured on one core of 2024: 6.8 ms a face in fours, 8.0 ms in sixteens,
# whose maps no longer fit the cache, and 7.9 ms alone.
_CHUNK = 4


class Classifier:
    """Aligned faces to logits and attention maps, by ONNX Runtime.

    Args:
        weights: name of bundled weights, or path of an `.onnx` network or its `.json` card; the default weights when
            None.
        num_threads: how many threads one run may use; None for `OMP_NUM_THREADS`, else one per core.
        providers: as for `ddamfn.Recognizer`.
        session_options: as for `ddamfn.Recognizer`.

    Attributes:
        card: the weights' card.

    Raises:
        WeightsError: there are no such weights, the file is damaged, or the network does not fit its card.
        UsageError: a provider is not installed, or both `num_threads` and `session_options` are given.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        num_threads: int | None = None,
        *,
        providers: Providers | None = None,
        session_options: "onnxruntime.SessionOptions | None" = None,
    ) -> None:
        path, self.card = find_weights(weights)
        if path.suffix.lower() != ".onnx":
            raise WeightsError(f"{path} is for PyTorch or another runtime: name an .onnx file, or export one from it")
        content = verify(self.card, path)
        try:
            self._session = open_session(
                content, num_threads=num_threads, providers=providers, session_options=session_options
            )
        except UsageError:
            raise
        except Exception as error:  # ONNX Runtime's own exceptions share no public base class
            reason = " ".join(str(error).split())
            raise WeightsError(f"{path} is no network that ONNX Runtime can run: {reason}") from error
        names = {output.name for output in self._session.get_outputs()}
        if not {"logits", "attention"} <= names or [entry.name for entry in self._session.get_inputs()] != ["input"]:
            raise WeightsError(f"{path} must have the input 'input' and the outputs 'logits' and 'attention'")
        self._preprocessing = preprocessing_of(self.card)

    def classify(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify aligned faces, in chunks, so that any number fits into memory.

        A face's result does not depend on the others: the network sees each on its own.

        Args:
            crops: uint8 (N, S, S, 3) RGB, with S the card's `input_side_px`; N may be 0.

        Returns:
            Logits float32 (N, K) in the order of the card's labels, before the temperature; attention float32
            (N, A, 7, 7), each head's mean over its channels, 0 to 1.

        Raises:
            UsageError: `crops` is not of that shape and type.
            WeightsError: the network cannot be run, or gives numbers that are not finite, or more or fewer logits than
                its card has labels.
        """
        side = self.card.input_side_px
        is_array = isinstance(crops, np.ndarray)
        if not is_array or crops.dtype != np.uint8 or crops.shape[1:] != (side, side, 3):
            given = f"{crops.shape} of {crops.dtype}" if is_array else type(crops).__name__
            raise UsageError(f"expected crops (N, {side}, {side}, 3) of uint8, not {given}")
        if not len(crops):
            heads = self.card.architecture["num_heads"]
            return np.zeros((0, len(self.card.labels)), np.float32), np.zeros((0, heads, 7, 7), np.float32)
        chunks = [self._run(crops[start : start + _CHUNK]) for start in range(0, len(crops), _CHUNK)]
        logits, attention = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        if logits.shape[1] != len(self.card.labels):
            raise WeightsError(
                f"the network gives {logits.shape[1]} logits, its card has {len(self.card.labels)} labels"
            )
        if not (np.isfinite(logits).all() and np.isfinite(attention).all()):
            raise WeightsError(
                f"the network of {self.card.name} gives numbers that are not finite: get the weights again"
            )
        return logits, attention

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Turn logits into calibrated probabilities with the card's temperature.

        Args:
            logits: (N, K).

        Returns:
            float64 (N, K); each row sums to 1.
        """
        scaled = logits.astype(np.float64) / self.card.temperature
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return cast(NDArray[np.float64], exponentials / exponentials.sum(axis=1, keepdims=True))

    def _run(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pixels = normalize(preprocess(crops, self._preprocessing), self.card.mean, self.card.std)
        try:
            logits, attention = self._session.run(("logits", "attention"), {"input": pixels})
        except Exception as error:  # as above
            reason = " ".join(str(error).split())
            raise WeightsError(
                f"the network of {self.card.name} cannot be run on its card's input: {reason}"
            ) from error
        return logits, attention


def alignment_of(card: Card) -> Alignment:
    """Return how the card's network wants faces cut out.

    Raises:
        ConfigError: if the card names a template that this version does not know, or a number out of range.
    """
    entry = card.alignment
    return Alignment(entry["template"], entry["margin"], entry["side_px"])


def preprocessing_of(card: Card) -> Preprocessing:
    """Return what the card's network expects of its crops.

    Raises:
        ConfigError: if the card has a setting out of range.
        WeightsError: if it has a setting that this version does not know, and so could not apply.
    """
    settings: dict[str, Any] = dict(card.preprocessing)
    stretch = settings.pop("stretch", None)
    try:
        return Preprocessing(**settings, stretch=None if stretch is None else Stretch(**stretch))
    except TypeError as error:
        raise WeightsError(
            f"the card of {card.name!r} has a preprocessing that this program does not know ({error}): update ddamfn"
        ) from None

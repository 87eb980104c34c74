"""Networks in the Hugging Face hub's layout: safetensors, `config.json`, README; offline. Needs the extra "hub"."""

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ddamfn.errors import MissingExtra
from ddamfn.export.loading import LoadedNetwork, load_network
from ddamfn.models import ModelOutput, create_network
from ddamfn.weights import Card

try:
    from huggingface_hub import PyTorchModelHubMixin
except ModuleNotFoundError as error:
    raise MissingExtra("hub", "huggingface_hub", "A hub folder") from error

_TEMPLATE = """\
---
{{ card_data }}
---

# Facial expressions from aligned faces

A network of the package `ddamfn`. `config.json` names its architecture, the expressions in the order of its outputs,
and how a face must be prepared. It predicts which expression a face shows, never what someone feels.

```python
from ddamfn.export.hub import HubNetwork

network = HubNetwork.from_pretrained("FOLDER")  # or the name of a repository
network(images).logits  # images: (B, 3, S, S) float32, normalized RGB
```

The network begins after the preprocessing, which programs of their own must do first: `ddamfn.faces.preprocess`, with
the settings under `preprocessing`, from uint8 crops to uint8 crops; then (pixel / 255 - mean) / std.
{% if rights %}
{{ rights }}
{% endif %}"""


class HubNetwork(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="ddamfn",
    license="mit",
    pipeline_tag="image-classification",
    tags=["facial-expression-recognition"],
    model_card_template=_TEMPLATE,
):
    """A registered network with huggingface_hub's `save_pretrained`, `from_pretrained` and `push_to_hub`."""

    def __init__(
        self,
        architecture: str,
        labels: Sequence[str],
        options: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.architecture, self.labels = architecture, tuple(labels)
        self.preprocessing = dict(preprocessing or {})
        self.network = create_network(architecture, num_classes=len(self.labels), **(options or {}))

    @classmethod
    def from_weights(cls, weights: str | os.PathLike[str] | LoadedNetwork) -> "HubNetwork":
        """Wrap trained weights, as `ddamfn.export.load_network` takes or returns them."""
        loaded = weights if isinstance(weights, LoadedNetwork) else load_network(weights)
        card = loaded.card
        described = None if card is None else preprocessing(card)
        wrapper = cls(loaded.architecture, list(loaded.labels), dict(loaded.options), described)
        wrapper.network.load_state_dict(loaded.network.state_dict())
        return wrapper.eval()

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalized RGB faces (B, 3, S, S) float32, any B."""
        output: ModelOutput = self.network(images)
        return output

    @classmethod
    def _from_pretrained(cls, **kwargs: Any) -> "HubNetwork":
        # The mixin prints where it loads from, and lets weights that do not fit pass by default.
        with contextlib.redirect_stdout(io.StringIO()):
            wrapper: HubNetwork = super()._from_pretrained(**{"strict": True, **kwargs})
        return wrapper


def preprocessing(card: Card) -> dict[str, Any]:
    """Return the card's settings of the network's input and confidence as plain values."""
    return {
        "input_side_px": card.input_side_px,
        "mean": list(card.mean),
        "std": list(card.std),
        "preprocessing": dict(card.preprocessing),
        "alignment": dict(card.alignment),
        "temperature": card.temperature,
    }

"""The exceptions of this package: one small family, each message saying what to do next.

The command line turns every `DdamfnError` into one line on standard error, so a message is a single sentence or two,
names the file or the argument, and never needs a traceback to be understood.
"""

from functools import partial
from typing import Any


class DdamfnError(Exception):
    """Base of every error that this package raises on purpose; catch it to catch them all."""


class UsageError(DdamfnError, ValueError):
    """Arguments out of range, of the wrong kind, or unusable together (exit status 2 on the command line)."""


class UnreadableImage(DdamfnError):
    """A file that cannot be decoded into an image: truncated, empty, too large, or not an image at all."""


class ImageTooLarge(UnreadableImage):
    """An image with more pixels than the caller allows; its pixels were not decoded."""


class UnreadableVideo(DdamfnError):
    """A video that cannot be opened, or one that breaks off; what was read before is complete."""


class DegenerateFace(DdamfnError):
    """Five landmarks from which no similarity transform follows, such as points on one spot or on one line."""


class UnknownLabel(DdamfnError):
    """A class name or index that is none of the canonical expressions and not in the data set's own list."""


class WeightsError(DdamfnError):
    """A weights file or its card that is missing, damaged, or does not fit the network."""


class DataError(DdamfnError):
    """A data set whose files are missing, malformed, or not in any known layout."""


class ConfigError(DdamfnError):
    """A configuration with an unknown field, a wrong type, or a value out of range."""


class TrainingError(DdamfnError):
    """A training run that cannot go on: a loss that is not finite, an empty class, a full disk."""


class PlaceError(DdamfnError):
    """A folder or a file system that does not give or take what it was asked for, such as one named by an address."""

    def __init__(self, place: str, reason: str, *, is_missing: bool = False) -> None:
        """Build the message from the parts.

        Args:
            place: path or address of the file or folder.
            reason: why, in words that quote no credentials.
            is_missing: whether it is just not there.
        """
        super().__init__(f"{place}: {reason}")
        self.place, self.reason, self.is_missing = place, reason, is_missing

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the constructor's own arguments, so that the error survives a worker process."""
        return partial(type(self), is_missing=self.is_missing), (self.place, self.reason)


class MissingExtra(DdamfnError, ImportError):
    """An optional package that the asked feature needs is not installed."""

    def __init__(self, extra: str, package: str, feature: str | None = None) -> None:
        """Build the message from the names.

        Args:
            extra: name of this package's extra, such as `parquet`.
            package: the distribution that is missing, such as `pyarrow`.
            feature: what needs it, as the sentence's subject; the extra's name capitalized when None.
        """
        message = f'{feature or extra.capitalize()} needs {package}: pip install "ddamfn[{extra}]"'
        super().__init__(message, name=package)
        self.extra = extra
        self.feature = feature

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str | None, str | None]]:
        """Pickle by the constructor's own arguments, so that the error survives a worker process."""
        return (type(self), (self.extra, self.name, self.feature))

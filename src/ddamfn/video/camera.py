"""Cameras, by number, through the system's own interface."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from ddamfn.errors import UnreadableVideo

if TYPE_CHECKING:
    from av.container import InputContainer


def open_camera(av: ModuleType, number: int) -> "InputContainer":
    """Open a camera.

    Args:
        av: the module PyAV.
        number: of the camera, from 0.

    Raises:
        UnreadableVideo: there is no such camera, it is in use or forbidden, or PyAV was built without cameras.
    """
    try:
        name, kind, options = _place(av, number)
        container: InputContainer = av.open(name, format=kind, options=options)
    # PyAV says so with a plain ValueError where it lacks the system's interface.
    except ValueError as error:
        if isinstance(error, av.FFmpegError):
            raise UnreadableVideo(f"camera {number} gives no video: {error.strerror}") from error
        raise UnreadableVideo(f"this build of PyAV has no camera input: {error}") from error
    except FileNotFoundError as error:
        raise UnreadableVideo(f"there is no camera {number}{_looked_for(error)}: is it plugged in?") from error
    except av.FFmpegError as error:
        raise UnreadableVideo(
            f"camera {number} cannot be opened: {error.strerror}; does another program use it?"
        ) from error
    return container


def _place(av: ModuleType, number: int) -> tuple[str, str, dict[str, str]]:
    """Return the camera's name, the input format and its options on this system."""
    if sys.platform == "darwin":
        # AVFoundation refuses its own default of 29.97 on most cameras.
        return f"{number}:none", "avfoundation", {"framerate": "30"}
    if sys.platform == "win32":
        devices = [device for device in av.device.enumerate_input_devices("dshow") if "video" in device.media_types]
        if number >= len(devices):
            raise FileNotFoundError(0, f"{len(devices)} found")
        return f"video={devices[number].name}", "dshow", {}
    return f"/dev/video{number}", "v4l2", {}


def _looked_for(error: FileNotFoundError) -> str:
    return f" ({error.filename})" if error.filename else ""

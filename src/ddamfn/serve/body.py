"""A request's body to uploaded files, in memory alone and within limits of size and time.

The framework's own form parser writes uploads above a megabyte to temporary files. Here nothing ever reaches a disk.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ddamfn.serve.problems import RETRY, Problem
from ddamfn.serve.settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"
"""Name of the form field that holds an image."""

_OCTETS, _MULTIPART = "application/octet-stream", "multipart/form-data"
_LONGEST_NAME = 255
# Other fields are skipped, but so many would only be sent to keep the parser busy.
_OTHER_PARTS = 16


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file.

    Attributes:
        name: its name without folders and control characters; "upload" if it has none.
        content: its bytes.
        media_type: as the client declared it, lower case; empty if it did not.
    """

    name: str
    content: bytes = field(repr=False)
    media_type: str = ""

    @property
    def is_supported(self) -> bool:
        """Whether the declared type may be an image's."""
        return self.media_type in ("", _OCTETS) or self.media_type.startswith("image/")


class BodyReader:
    """Receives bodies, and knows how many bytes all of them hold together.

    Args:
        settings: the server's limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.buffered_bytes = 0

    @contextlib.asynccontextmanager
    async def uploads(self, request: Request, *, raw: bool = True) -> AsyncIterator[list[Upload]]:
        """Receive a request's files; they count as held until the block is left.

        Args:
            request: whose body was not read yet.
            raw: whether the body may be the image itself, and not a form.

        Yields:
            The files in the order of the form; at least one.

        Raises:
            Problem: 400 for a form that is none or holds no file, 408 for a client that is too slow, 413 for too many
                bytes or files, 415 for another type of body, 429 if other bodies fill the memory that is set aside.
            ClientDisconnect: the client went away.
        """
        media_type, boundary = _content_type(request, raw=raw)
        chunks: list[bytes] = []
        try:
            await self._receive(request, chunks)
            body = b"".join(chunks)
            if media_type != _MULTIPART:
                yield [Upload("upload", body, media_type)]
            else:
                # Not on the event loop: a form made to be slow would hold up everybody.
                yield await asyncio.to_thread(parse_form, body, boundary, self._settings.queue)
        finally:
            self.buffered_bytes -= sum(map(len, chunks))

    async def _receive(self, request: Request, chunks: list[bytes]) -> None:
        limit = self._settings.max_upload_bytes
        too_large = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {limit:,} bytes")
        if int(request.headers.get("content-length", "0")) > limit:
            raise too_large
        now = asyncio.get_running_loop().time
        deadline, stream, received = now() + self._settings.body_total_s, request.stream(), 0
        while True:
            try:
                async with asyncio.timeout(min(self._settings.body_idle_s, deadline - now())):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise Problem(HTTPStatus.REQUEST_TIMEOUT, "the body came too slowly: send it again") from None
            if chunk is None:
                return
            received += len(chunk)
            if received > limit:
                raise too_large
            if self.buffered_bytes + len(chunk) > self._settings.buffered_bytes:
                raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "too many uploads at once: send it again later", RETRY)
            self.buffered_bytes += len(chunk)
            chunks.append(chunk)


def parse_form(body: bytes, boundary: bytes, most_files: int) -> list[Upload]:
    """Take the files out of a multipart form.

    Args:
        body: the whole form.
        boundary: between its parts.
        most_files: forms with more are refused.

    Raises:
        Problem: 400 if it is no form or holds no file, 413 if it holds too many.
    """
    form = _Form(most_files)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Problem(HTTPStatus.BAD_REQUEST, "the body is not the form that its Content-Type promises") from None
    if not form.ended:
        raise Problem(HTTPStatus.BAD_REQUEST, "the form ends in the middle: send it again")
    if not form.uploads:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the form has no file: send the image as the field {FIELD!r}")
    return form.uploads


class _Form:
    """Collects the parts named `FIELD` while a parser goes through a form."""

    def __init__(self, most_files: int) -> None:
        self.uploads: list[Upload] = []
        self.ended = False
        self._most_files = most_files
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._content: list[bytes] | None = None
        self._file_name = ""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if len(self.uploads) >= self._most_files or self._parts > self._most_files + _OTHER_PARTS:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request holds at most {self._most_files} files")
        self._headers, self._content = {}, None

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        # A field without a file name is a text that somebody typed, whatever its name.
        if options.get(b"name") == FIELD.encode() and b"filename" in options:
            self._content = []
            self._file_name = clean_name(options[b"filename"])

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._content is not None:
            self._content.append(data[start:end])

    def _end(self) -> None:
        if self._content is not None:
            media_type, _ = parse_options_header(self._headers.get(b"content-type", b""))
            self.uploads.append(Upload(self._file_name, b"".join(self._content), media_type.decode("latin-1")))

    def _finish(self) -> None:
        self.ended = True


def clean_name(raw: bytes) -> str:
    """Return an uploaded file's name as it may stand in a result.

    Args:
        raw: as the client sent it, perhaps with folders, control characters or bytes that are no UTF-8.

    Returns:
        The last part of the path, printable, at most 255 characters; "upload" if nothing is left.
    """
    last = raw.decode("utf-8", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:_LONGEST_NAME] or "upload"


def _content_type(request: Request, *, raw: bool) -> tuple[str, bytes]:
    """Return the body's media type and, for a form, its boundary."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding")
    name, options = parse_options_header(request.headers.get("content-type", ""))
    media_type = name.decode("latin-1").lower()
    if media_type == _MULTIPART:
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise Problem(HTTPStatus.BAD_REQUEST, "the Content-Type of a form must name its boundary")
        return media_type, boundary
    if not raw:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the images as {_MULTIPART}, each as field {FIELD!r}")
    if not Upload("", b"", media_type).is_supported:
        told = f"send an image as {_MULTIPART}, field {FIELD!r}, or as the body itself, of type image/* or {_OCTETS}"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told)
    return media_type, b""

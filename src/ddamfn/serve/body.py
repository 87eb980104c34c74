"""Receives uploads in memory, within limits of bytes, seconds and files."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ddamfn.serve.problems import RETRY, Problem
from ddamfn.serve.settings import Settings

FIELD = "file"
"""Name of the form field that holds an image."""

_OCTETS, _MULTIPART = "application/octet-stream", "multipart/form-data"
_LONGEST_NAME = 255
# Other fields are skipped, but so many would only be sent to keep the parser busy.
_OTHER_PARTS = 16


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file."""

    name: str  # without folders and control characters
    content: bytes = field(repr=False)
    media_type: str = ""  # as declared, lower case; may be empty

    @property
    def is_supported(self) -> bool:
        """Whether the declared type may be an image's."""
        return self.media_type in ("", _OCTETS) or self.media_type.startswith("image/")


class BodyReader:
    """Receives bodies and counts the bytes that all of them hold together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.buffered_bytes = 0

    @contextlib.asynccontextmanager
    async def uploads(self, request: Request, *, raw: bool = True) -> AsyncIterator[list[Upload]]:
        """Yield a request's files in form order, counted as held for the block; `raw` also allows an image as body.

        Raises Problem: 400 for a malformed form or one without a file, 408 for a slow client, 413 for too many
        bytes or files, 415 for another type of body, 429 if other bodies fill the memory set aside.
        """
        media_type = _media_type(request, raw=raw)
        sizes: list[int] = []
        try:
            async with contextlib.aclosing(self._receive(request, sizes)) as chunks:
                if media_type == _MULTIPART:
                    files = await parse_form(request.headers, chunks, self._settings.queue)
                else:
                    files = [Upload("upload", b"".join([chunk async for chunk in chunks]), media_type)]
            yield files
        finally:
            self.buffered_bytes -= sum(sizes)

    async def _receive(self, request: Request, sizes: list[int]) -> AsyncGenerator[bytes, None]:
        """Yield a body's chunks and note the size of each in `sizes`."""
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
            sizes.append(len(chunk))
            yield chunk


class _Form(MultiPartParser):
    """Starlette's parser, kept in memory; it also counts parts of all kinds and refuses truncated forms."""

    # SpooledTemporaryFile never rolls over to the disk at 0.
    spool_max_size = 0
    _ended = False
    _parts = 0

    async def parse(self) -> FormData:
        self.stream = self._until_the_end(self.stream)
        return await super().parse()

    async def _until_the_end(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        # Raised in here, so that Starlette closes the file that was cut off.
        if not self._ended:
            raise Problem(HTTPStatus.BAD_REQUEST, "the form ends in the middle: send it again")

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._parts += 1
        if self._parts > self.max_files:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a form has at most {self.max_files} parts")

    def on_end(self) -> None:
        self._ended = True


async def parse_form(headers: Headers, chunks: AsyncGenerator[bytes, None], max_files: int) -> list[Upload]:
    """Return a multipart form's files; raise Problem 400 if it is malformed or has no file, 413 if it has too many."""
    # Parsed on the event loop: chunks are small, and the slowest of 64 KiB takes milliseconds. Fields that are no files
    # need no limit of their own beside the body's.
    parts = max_files + _OTHER_PARTS
    try:
        form = await _Form(headers, chunks, max_files=parts, max_fields=parts, max_part_size=sys.maxsize).parse()
    except MultiPartException as error:
        raise _malformed(error.message) from None
    except UnicodeError:  # Starlette decodes names with whatever charset the client declares.
        raise _malformed("undecodable names") from None
    try:
        # A field without a file name is a text that somebody typed, whatever its name.
        files = [entry for entry in form.getlist(FIELD) if isinstance(entry, UploadFile)]
        if len(files) > max_files:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request holds at most {max_files} files")
        if not files:
            raise Problem(HTTPStatus.BAD_REQUEST, f"the form has no file: send the image as the field {FIELD!r}")
        return [await _upload(file) for file in files]
    finally:
        await form.close()


async def _upload(file: UploadFile) -> Upload:
    return Upload(clean_name(file.filename or ""), await file.read(), _bare(file.content_type or ""))


def clean_name(raw: str) -> str:
    """Return the last part of an uploaded file's path, printable, at most 255 characters, or "upload"."""
    last = raw.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:_LONGEST_NAME] or "upload"


def _malformed(reason: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, f"the body is not the form that its Content-Type promises: {reason}")


def _media_type(request: Request, *, raw: bool) -> str:
    """Return the body's media type, or refuse it."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding")
    media_type = _bare(request.headers.get("content-type", ""))
    if media_type == _MULTIPART:
        return media_type
    if not raw:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send the images as {_MULTIPART}, each as field {FIELD!r}")
    if not Upload("", b"", media_type).is_supported:
        hint = f"send an image as {_MULTIPART}, field {FIELD!r}, or as the body itself, of type image/* or {_OCTETS}"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, hint)
    return media_type


def _bare(content_type: str) -> str:
    """Return a Content-Type without its parameters, lower case."""
    return content_type.partition(";")[0].strip().lower()

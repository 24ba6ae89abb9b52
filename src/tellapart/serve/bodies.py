"""A request body -> its images, as bytes with names. Nothing in it is used as a path or URL.

Three kinds: multipart/form-data (every part with a file name is an image), a raw image (image/* or
application/octet-stream), JSON with base64.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from tellapart.serve.limits import BodyCount, Bounds, RequestError

NAME_LENGTH = 255
_INLINE = 262_144  # bytes that are parsed at once; larger bodies in a thread, so that other requests go on
_KINDS = "multipart/form-data, image/* or application/octet-stream (one image), application/json"

# Errors of a client are sent to that client: a client must not be able to fill the log.
for _library in ("python_multipart", "PIL"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Upload:
    """name: as given by the client, for display only. data: the bytes of the file."""

    name: str
    data: bytes


class JsonImage(BaseModel):
    """An image in JSON. data: the bytes of the file in base64."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", max_length=NAME_LENGTH)
    data: str = Field(json_schema_extra={"contentEncoding": "base64"})


class JsonImages(BaseModel):
    """The JSON body of a request."""

    model_config = ConfigDict(extra="forbid")

    images: list[JsonImage]


async def receive(request: Request, bounds: Bounds, count: BodyCount) -> bytes:
    """The whole body. Raises RequestError 413 if it is too large, by its header or while it arrives."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bounds.body:
        raise _too_large(bounds)
    chunks = []
    async for chunk in request.stream():
        count.add(len(chunk))
        if count.bytes > bounds.body:
            raise _too_large(bounds)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def images_of(content_type: str, body: bytes, bounds: Bounds) -> list[Upload]:
    """The images of a body, at least one. Raises RequestError 400, 413 or 415."""
    if len(body) <= _INLINE:
        return parse(content_type, body, bounds)
    return await asyncio.to_thread(parse, content_type, body, bounds)


def parse(content_type: str, body: bytes, bounds: Bounds) -> list[Upload]:
    """As images_of, synchronously.

    >>> parse("image/png", b"...", Bounds())
    [Upload(name='', data=b'...')]
    """
    from python_multipart.multipart import parse_options_header

    try:
        kind, options = parse_options_header(content_type)
    except ValueError:
        kind, options = b"", {}
    if kind == b"multipart/form-data":
        found = _from_multipart(options.get(b"boundary", b""), body, bounds)
    elif kind == b"application/json":
        found = _from_json(body, bounds)
    elif kind.startswith(b"image/") or kind == b"application/octet-stream":
        found = [Upload("", body)]
    else:
        raise RequestError(415, f"The Content-Type is {content_type[:100]!r}; supported are {_KINDS}.")
    if not found:
        raise RequestError(400, "The request holds no image. Send at least one, as a part with a file name.")
    return found


def _from_multipart(boundary: bytes, body: bytes, bounds: Bounds) -> list[Upload]:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import File, FormParser

    found: list[Upload] = []
    fields = 0
    ended = False

    def on_file(file: Any) -> None:
        if len(found) == bounds.files:
            raise _too_many(bounds)
        assert isinstance(file, File)
        name = (file.file_name or b"").decode("utf-8", "replace")
        found.append(Upload(name[:NAME_LENGTH], file.file_object.getvalue()))  # type: ignore[union-attr]
        file.close()

    def on_field(_field: Any) -> None:
        nonlocal fields
        fields += 1
        if fields > bounds.files:
            raise _too_many(bounds)

    def on_end() -> None:
        nonlocal ended
        ended = True

    memory = {"MAX_MEMORY_FILE_SIZE": len(body), "UPLOAD_ERROR_ON_BAD_CTE": True}
    try:
        parser = FormParser("multipart/form-data", on_field, on_file, on_end, boundary or None, config=memory)
        parser.write(body)
        parser.finalize()
    except (FormParserError, AssertionError, ValueError) as error:
        raise RequestError(400, f"The multipart body is damaged: {error}") from None
    if not ended:
        raise RequestError(400, "The multipart body is truncated: its last boundary is missing.")
    return found


def _from_json(body: bytes, bounds: Bounds) -> list[Upload]:
    try:
        given = JsonImages.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _wrong_json(".".join(map(str, first["loc"])) or "the body", first["msg"]) from None
    if len(given.images) > bounds.files:
        raise _too_many(bounds)
    found = []
    for number, image in enumerate(given.images):
        try:
            found.append(Upload(image.name, base64.b64decode(image.data, validate=True)))
        except (binascii.Error, ValueError) as error:
            raise _wrong_json(f"images.{number}.data", f"no base64 ({error})") from None
    return found


def _wrong_json(place: str, why: str) -> RequestError:
    expected = '{"images": [{"name": "a.jpg", "data": "<base64>"}]}'
    return RequestError(400, f"The JSON is wrong at {place}: {why}. Expected {expected}.")


def _too_large(bounds: Bounds) -> RequestError:
    return RequestError(413, f"A request has at most {bounds.body:,} bytes. Send fewer or smaller images.")


def _too_many(bounds: Bounds) -> RequestError:
    return RequestError(413, f"A request has at most {bounds.files} images. Send the rest in another.")

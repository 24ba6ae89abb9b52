"""Checks before every route: access, size of headers, and the security headers of every response.

Also counts and times each request.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tellapart.errors import ConfigError
from tellapart.serve.limits import HEADER_BYTES

if TYPE_CHECKING:
    from tellapart.serve.metrics import Metrics

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
"""Answered without the token; so are the files of the page. They say nothing that is not in the package."""
ROUTES = ("/v1/predict", "/v1/feedback", "/v1/runs", "/metrics", *OPEN)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True)
class Access:
    """Who may send requests. host: where the server listens. token: what clients must send, or None. origins: other
    origins whose pages may call, such as `https://cats.example`; their host names are accepted as the server's own
    too, as behind a proxy.

    Raises ConfigError for an invalid origin.
    """

    host: str = LOOPBACK[0]
    token: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}" or "*" in origin:
                raise ConfigError(
                    f"{origin!r} is not an origin; expected one such as https://cats.example, without a path."
                )
        if self.token is not None and (
            len(self.token) < 16 or not self.token.isascii() or not self.token.isprintable()
        ):
            raise ConfigError(
                "The token must have at least 16 printable ASCII characters. Make one with: openssl rand -hex 32"
            )

    def names(self) -> frozenset[str] | None:
        """The host names that requests may name; None: any, if the server listens on other interfaces than loopback."""
        if self.host not in LOOPBACK:
            return None
        return frozenset((*LOOPBACK, *(str(urlsplit(origin).hostname) for origin in self.origins)))


class Guard:
    """The ASGI application around the routes. metrics: counts and times the requests, if given."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics | None = None) -> None:
        self._app = app
        self._token = None if access.token is None else f"Bearer {access.token}".encode()
        self._names = access.names()
        self._origins = frozenset(origin.encode() for origin in access.origins)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        shared = _shared(origin) if origin in self._origins else ()
        started = time.perf_counter()
        status = 500

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                added = [row for row in _ALWAYS if row[0] not in own]
                message = {**message, "headers": [*message["headers"], *added, *shared]}
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                await _refuse(send_guarded, *refusal)
            elif shared and scope["method"] == "OPTIONS":
                await _answer(send_guarded, 204, b"")
            else:
                await self._app(scope, receive, send_guarded)
        finally:
            if self._metrics is not None:
                self._count(self._metrics, scope["path"], status, time.perf_counter() - started)

    @staticmethod
    def _count(metrics: Metrics, path: str, status: int, seconds: float) -> None:
        route = path if path in ROUTES else "other"
        metrics.requests.labels(route, str(status)).inc()
        metrics.request_seconds.labels(route).observe(seconds)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and message for a request that is refused."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return 431, f"The headers have more than {HEADER_BYTES:,} bytes."
        host = headers.get(b"host", b"")
        if self._names is not None and _name(host) not in self._names:
            # Otherwise a page elsewhere could read the responses by DNS rebinding.
            return 403, f"This server is not known as {host.decode('latin-1')!r}. Start it with --origin to add a name."
        origin = headers.get(b"origin")
        if origin is not None and origin not in self._origins and origin.partition(b"://")[2] != host:
            return 403, "Pages of other origins may not call this server. Start it with --origin to allow one."
        if self._token is None or _is_open(scope["path"]) or (origin is not None and scope["method"] == "OPTIONS"):
            return None
        if hmac.compare_digest(headers.get(b"authorization", b""), self._token):
            return None
        return 401, "A token is needed: send the header `Authorization: Bearer TOKEN`."


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/page/")


def _name(host: bytes) -> str:
    """The name in a Host header, without port and brackets; empty if it is not valid."""
    try:
        return urlsplit(f"//{host.decode('ascii')}").hostname or ""
    except ValueError:
        return ""


def _shared(origin: bytes) -> Iterable[tuple[bytes, bytes]]:
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-expose-headers", b"retry-after"),
        (b"access-control-max-age", b"600"),
        (b"vary", b"origin"),
    )


async def _refuse(send: Send, status: int, message: str) -> None:
    extra = ((b"www-authenticate", b"Bearer"),) if status == 401 else ()
    await _answer(send, status, json.dumps({"error": message}).encode(), (b"content-type", b"application/json"), *extra)


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = () if status == 204 else ((b"content-length", str(len(body)).encode()),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})

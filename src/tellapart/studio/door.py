"""The studio's token: who has it, in the address that is opened, gets a cookie; who has neither is refused.

The guards of `serve` keep out the pages of other sites. This keeps out other users of the machine: anybody who is
logged in can reach a port of 127.0.0.1.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_PRIVATE = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
_REFUSED = "This studio asks for its token: open the address that it printed in its terminal."


class Door:
    """The ASGI application around one that needs the token: random, new at each start."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.token = secrets.token_urlsafe(24)
        self._once = secrets.token_urlsafe(24)
        self._lock = threading.Lock()

    def address(self, place: str) -> str:
        """To be printed. place: such as http://127.0.0.1:8010."""
        return f"{place}/?{urlencode({'token': self.token})}"

    def address_once(self, place: str) -> str:
        """To be given to a browser, once: other users can read the command line of the browser's process."""
        return f"{place}/?{urlencode({'token': self._once})}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        # A cookie belongs to all ports of a host: each studio has its own.
        cookie = f"tellapart-studio-{scope['server'][1]}"
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = request.query_params.get("token", "")
        if request.method == "GET" and given and (_equal(given, self.token) or self._spend(given)):
            response = self._let_in(request)
            response.set_cookie(cookie, self.token, httponly=True, samesite="strict")
        elif _equal(request.cookies.get(cookie, ""), self.token) or _equal(bearer, self.token):
            await self._app(scope, receive, send)
            return
        elif "/v1/" in request.url.path:
            response = JSONResponse({"error": _REFUSED}, 401, _PRIVATE)
        else:
            response = PlainTextResponse(_REFUSED + "\n", 401, _PRIVATE)
        await response(scope, receive, send)

    @staticmethod
    def _let_in(request: Request) -> Response:
        """To the same address without the token, which then stands in no history and no header."""
        rest = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
        # Never //host, which would lead elsewhere.
        path = "/" + request.url.path.lstrip("/")
        return RedirectResponse(f"{path}?{rest}" if rest else path, 303, _PRIVATE)

    def _spend(self, given: str) -> bool:
        """Whether it is the token for the browser, which is valid once."""
        with self._lock:
            right = bool(self._once) and _equal(given, self._once)
            if right:
                self._once = ""
            return right


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())

"""The part of the Hugging Face hub that `push` and `pull` talk to, on loopback: repositories of small files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """repositories: name -> file -> bytes. asked: the paths of all requests. token: that is required to write."""

    repositories: dict[str, dict[str, bytes]]
    asked: list[str]
    token = "hf_of_this_test"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def _answer(self, value: Any = None, status: int = 200, content: bytes | None = None, **headers: str) -> None:
        body = json.dumps(value).encode() if content is None else content
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            self._answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            said = json.loads(body)
            name = f"{said['organization']}/{said['name']}"
            self.repositories.setdefault(name, {})
            self._answer({"url": f"{self._here()}/{name}"})
        elif self.path.startswith("/api/validate-yaml"):
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif "/commit/" in self.path:
            name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            files = self.repositories[name]
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            self._answer({"commitUrl": f"{self._here()}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._answer({"error": "not here"}, 404)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        found = re.fullmatch(
            r"/(?:api/models/)?([^/?]+/[^/?]+)(?:/(?:resolve|revision)/[^/?]+)?/?([^?]*)(\?.*)?", self.path
        )
        files = self.repositories.get(found[1]) if found else None
        if found is None or files is None or (found[2] and found[2] not in files):
            self._answer({"error": "Repository Not Found"}, 404, X_Error_Code="RepoNotFound")
        elif self.path.startswith("/api/models/"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            self._answer({"id": found[1], "modelId": found[1], "sha": COMMIT, "siblings": siblings})
        else:
            content = files[found[2]]
            self._answer(content=content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')

    do_HEAD = do_GET

    def _here(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def hub() -> Iterator[tuple[str, type[Hub]]]:
    """Its address, and what it holds."""
    kind = type("OneHub", (Hub,), {"repositories": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", kind
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Who may ask, which pages may call, and what every answer forbids a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

import tellapart as ta
from tellapart.errors import ConfigError
from tellapart.serve.middleware import CONTENT_SECURITY_POLICY, Access

if TYPE_CHECKING:
    from tests.serve.conftest import Server

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def guarded(serve: Callable[..., Server], run: ta.Run, tmp_path: Path) -> Server:
    (tmp_path / "token").write_text(TOKEN + "\n")
    return serve(run.path, "--token-file", tmp_path / "token", "--origin", "https://cats.example")


def test_a_token_is_asked_for_wherever_images_or_figures_are(guarded: Server, photographs: list[Path]) -> None:
    with guarded.client() as client:
        for method, path in (("POST", "/v1/predict"), ("GET", "/v1/runs"), ("GET", "/metrics"), ("GET", "/v1/none")):
            answer = client.request(method, path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "Bearer TOKEN" in answer.json()["error"]
        for wrong in (TOKEN, f"Bearer {TOKEN}0", f"Bearer {TOKEN[:-1]}", "Basic x", "Bearer", f"bearer {TOKEN}"):
            assert client.get("/v1/runs", headers={"authorization": wrong}).status_code == 401, wrong
        right = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/v1/runs", headers=right).status_code == 200
        data = photographs[0].read_bytes()
        answer = client.post("/v1/predict", content=data, headers={**right, "content-type": "image/jpeg"})
        assert answer.status_code == 200


def test_health_and_the_page_are_open_without_the_token(guarded: Server) -> None:
    with guarded.client() as client:
        for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/page/index.js", "/page/style.css"):
            assert client.get(path).status_code == 200, path


def test_the_token_is_compared_in_constant_time() -> None:
    source = Path(ta.__file__).parent.joinpath("serve", "middleware.py").read_text(encoding="utf-8")
    assert "compare_digest(headers.get" in source


def test_pages_of_other_origins_may_not_call(client: httpx.Client, server: Server) -> None:
    own = server.url
    for origin in ("https://evil.example", "null", "http://localhost:1", own.replace("http", "https") + "0"):
        for method, path in (("GET", "/v1/runs"), ("POST", "/v1/predict"), ("OPTIONS", "/v1/predict")):
            answer = client.request(method, path, headers={"origin": origin})
            assert answer.status_code == 403, (origin, method)
            assert "access-control-allow-origin" not in answer.headers
    assert client.get("/v1/runs", headers={"origin": own}).status_code == 200


def test_a_name_that_was_made_to_lead_here_is_refused(client: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"):
        answer = client.get("/v1/runs", headers={"host": host})
        assert answer.status_code in (400, 403), host
    for host in ("localhost", "localhost:8000", "[::1]:8000", "127.0.0.1"):
        assert client.get("/v1/runs", headers={"host": host}).status_code == 200, host


def test_an_origin_that_was_named_may_call_and_a_proxy_may_use_its_name(guarded: Server) -> None:
    with guarded.client() as client:
        asked = client.options("/v1/predict", headers={"origin": "https://cats.example"})
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-origin"] == "https://cats.example"
        assert "authorization" in asked.headers["access-control-allow-headers"]
        headers = {"origin": "https://cats.example", "authorization": f"Bearer {TOKEN}"}
        answer = client.get("/v1/runs", headers={**headers, "host": "cats.example"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://cats.example"
        assert answer.headers["vary"] == "origin"
        assert client.get("/v1/runs", headers={"origin": "https://cats.example"}).status_code == 401
        assert client.get("/healthz", headers={"host": "other.example"}).status_code == 403


def test_every_answer_carries_the_headers_that_protect_a_browser(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/page/index.js", "/v1/runs", "/nowhere", "/metrics"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("origin", ["*", "cats.example", "https://cats.example/", "https://*.example", "file://x"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match="is not an origin"):
        Access(origins=(origin,))


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "ä" * 20, "with\nnewline in the middle"])
def test_a_token_that_is_easily_guessed_or_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="16 printable"):
        Access(token=token)


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(Access(token=TOKEN))

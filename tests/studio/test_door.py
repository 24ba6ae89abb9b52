"""The token of the studio."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tellapart.studio.door import Door

testclient = pytest.importorskip("starlette.testclient")

PLACE = "http://127.0.0.1:8010"


async def page(_request: Request) -> Response:
    return PlainTextResponse("inside")


@pytest.fixture
def door() -> Door:
    return Door(Starlette(routes=[Route("/{path:path}", page, methods=["GET", "POST"])]))


def visitor(door: Door) -> testclient.TestClient:
    return testclient.TestClient(door, base_url=PLACE, follow_redirects=False)


def test_the_address_that_is_printed_gives_a_cookie_that_lets_in(door: Door) -> None:
    client = visitor(door)
    assert client.get("/").status_code == 401
    answer = client.get(door.address(PLACE).removeprefix(PLACE) + "&kind=blank")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?kind=blank"
    kept = answer.headers["set-cookie"].lower()
    assert "httponly" in kept
    assert "samesite=strict" in kept
    assert client.get("/").text == "inside"
    assert client.post("/v1/decisions").text == "inside"
    assert visitor(door).get(door.address(PLACE).removeprefix(PLACE)).status_code == 303  # in another browser too


def test_who_has_no_token_or_another_is_refused_in_words(door: Door) -> None:
    client = visitor(door)
    for path in ("/", "/?token=", "/?token=x", "/pixels/0/160/x", "/page/studio.js"):
        answer = client.get(path)
        assert answer.status_code == 401
        assert "open the address that it printed" in answer.text
    assert client.post("/v1/decisions", json={}).json()["error"]
    assert client.post(f"/v1/decisions?token={door.token}").status_code == 401
    for header in ({"authorization": "Bearer "}, {"authorization": "Bearer x"}, {"cookie": "tellapart-studio-8010="}):
        assert client.get("/v1/state", headers=header).status_code == 401
    assert client.get("/v1/state", headers={"authorization": f"Bearer {door.token}"}).text == "inside"
    assert len(door.token) >= 32
    assert Door(page).token != door.token


def test_what_the_browser_is_started_with_is_valid_once(door: Door) -> None:
    address = door.address_once(PLACE).removeprefix(PLACE)
    assert door.token not in address
    assert visitor(door).get(address).status_code == 303
    assert visitor(door).get(address).status_code == 401


def test_an_address_with_the_token_leads_to_no_other_host(door: Door) -> None:
    answer = visitor(door).get(f"{PLACE}//evil.example/?token={door.token}")
    assert answer.headers["location"] == "/evil.example/"

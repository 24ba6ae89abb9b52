"""Text of drawings: names cut in one way, and files that stand alone whatever their names hold."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tellapart.svg import LONGEST_NAME, MARGIN, data_url, drawing, shortened, text, text_width


@pytest.mark.parametrize("most", [7, LONGEST_NAME, 40])
@pytest.mark.parametrize("name", ["Bengal", "kind of clothing " * 5 + "7", "\N{CJK UNIFIED IDEOGRAPH-732B}" * 30, ""])
def test_a_name_keeps_its_two_ends_and_never_more_room_than_it_has(name: str, most: int) -> None:
    short = shortened(name, most)
    assert text_width(short) <= text_width("n" * most)
    head, _, tail = short.partition("\N{HORIZONTAL ELLIPSIS}")
    assert name.startswith(head)
    assert name.endswith(tail)
    assert (short == name) == (text_width(name) <= text_width("n" * most) or name == "Bengal")


def test_a_drawing_stands_alone_with_a_margin_and_any_name() -> None:
    names = ["<b>&\"'", "a\x1b[2J\x00b", "caf\udce9.jpg", "$x$"]
    parts = "".join(text(0, 20 * place, name, "tick") for place, name in enumerate(names))
    made = drawing("Names", f'<svg viewBox="0 0 30 20">{parts}</svg>', "text{fill:var(--ink)}")
    root = ElementTree.fromstring(made.svg)
    assert root.get("viewBox") == f"-{MARGIN} -{MARGIN} 50 40"
    assert (root.get("width"), root.get("height")) == ("50", "40")
    shown = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert shown[0] == names[0]
    assert shown[3] == names[3]
    assert "--ink:" in made.svg


def test_an_image_inside_is_what_it_was() -> None:
    import base64
    import io

    from PIL import Image

    for channels in (1, 3, 4):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
        kind, _, data = data_url(pixels).partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    assert data_url(pixels[..., :3], 80).startswith("data:image/jpeg;base64,/9j/")

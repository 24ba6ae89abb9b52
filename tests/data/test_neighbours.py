from __future__ import annotations

import numpy as np
import pytest

from tellapart.data import neighbours as near
from tellapart.data.neighbours import COUNT, FAR, farness, neighbours, reduced


def features(count: int, width: int = 400, seed: int = 0) -> np.ndarray:
    """As a backbone gives them: mostly one shared direction, a few of its own for each kind, and noise."""
    generator = np.random.default_rng(seed)
    kinds = generator.normal(0, 1, (8, width))[generator.integers(0, 8, count)]
    return np.asarray(np.abs(3 + kinds + generator.normal(0, 1, (count, width))), np.float16)


def test_reduced_features_keep_the_angles() -> None:
    whole = features(500).astype(np.float32)
    small = reduced(whole)
    assert small.shape == (500, near.WIDTH)
    for pair in ((0, 1), (10, 200), (3, 499)):
        one, other = (rows[list(pair)] for rows in (whole, small))
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in (one, other)]
        assert cosines[0] == pytest.approx(cosines[1], abs=0.02)


def test_few_images_and_narrow_features_are_no_obstacle() -> None:
    found = neighbours(reduced(features(4, width=6)))
    assert found.places.shape == (4, COUNT)
    assert (found.places[:, :3] >= 0).all()
    assert (found.places[:, 3:] == -1).all()
    assert np.isfinite(farness(found)).all()


def test_the_nearest_come_first_and_no_image_is_its_own_neighbour() -> None:
    values = reduced(features(300))
    found = neighbours(values)
    directions = values / np.linalg.norm(values, axis=1, keepdims=True)
    similarity = directions @ directions.T
    np.fill_diagonal(similarity, -2)
    np.testing.assert_allclose(found.similarity, -np.sort(-similarity, axis=1)[:, :COUNT], atol=1e-5)
    assert not (found.places == np.arange(300)[:, None]).any()


def test_cells_find_the_copies_that_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = features(4000)
    whole[:200] = whole[2000:2200] + np.random.default_rng(1).normal(0, 0.3, (200, 400)).astype(np.float16)
    monkeypatch.setattr(near, "_ALL_PAIRS", 1000)
    monkeypatch.setattr(near, "_AT_ONCE", 100_000)
    found = neighbours(reduced(whole))
    assert (found.places[:200, 0] == np.arange(2000, 2200)).mean() > 0.97
    assert not (found.places == np.arange(4000)[:, None]).any()


@pytest.mark.parametrize("kinds", [10, 2, 1])
def test_a_handful_of_strange_images_is_found_even_where_they_are_alike(kinds: int) -> None:
    whole = features(600).astype(np.float32)
    generator = np.random.default_rng(2)
    strange = np.abs(generator.normal(0, 4, (kinds, 400)))[np.arange(10) % kinds]
    whole[:10] = strange + generator.normal(0, 0.3, (10, 400))
    far = farness(neighbours(reduced(whole)))
    assert (far[:10] > FAR).all()
    assert (far[10:] > FAR).mean() < 0.01

"""Jigsaw puzzles, small: cutting and joining, what counts as right, and what is learnt."""

import numpy as np
import pytest

import jigsaw

SMALL = ["--steps", "4", "--batch-size", "8", "--test-images", "20", "--width", "16"]


@pytest.mark.parametrize("p", [2, 4])
def test_joining_undoes_cutting(p, rng):
    images = rng.random((3, 64))
    tiles = jigsaw.cut(images, p)
    assert tiles.shape == (3, p * p, (8 // p) ** 2)
    np.testing.assert_array_equal(jigsaw.join(tiles), images.reshape(3, 8, 8))


def test_tiles_by_hand():
    tiles = jigsaw.cut(np.arange(16.0)[np.newaxis], 2)
    expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    np.testing.assert_array_equal(tiles[0], expected)


def test_borders_that_do_not_fit_are_left_out():
    image = np.arange(64.0).reshape(8, 8)
    tiles = jigsaw.cut(image.reshape(1, 64), 3)
    np.testing.assert_array_equal(jigsaw.join(tiles)[0], image[1:7, 1:7])


def test_scrambling_moves_tiles_and_nothing_else(rng):
    tiles = rng.random((30, 9, 4))
    puzzles = jigsaw.scramble(tiles, rng)
    for puzzle, original in zip(puzzles, tiles, strict=True):
        assert {tile.tobytes() for tile in puzzle} == {tile.tobytes() for tile in original}
    # One tile in nine stays where it is; 0.019 is one standard error.
    assert abs(jigsaw.measure(puzzles, tiles)["tiles right"] - 1 / 9) < 0.1


def test_blank_tiles_are_interchangeable():
    a, blank = np.ones(4), np.zeros(4)
    tiles = np.array([[a, blank, blank, 2 * a], [a, blank, blank, 2 * a]])
    found = np.array([[a, blank, blank, 2 * a], [blank, a, blank, 2 * a]])
    found[0, [1, 2]] = found[0, [2, 1]]
    results = jigsaw.measure(found, tiles)
    assert results == {"tiles right": 6 / 8, "images right": 1 / 2, "pixel MSE": 2 * 4 / 32}


def test_model_only_moves_tiles_and_does_not_look_at_their_places(rng):
    model = jigsaw.build(9, 4, width=8)
    tiles = rng.random((5, 9, 4)).astype("float32")
    found = np.asarray(model(tiles, training=False))
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(tiles, axis=1))
    again = np.asarray(model(jigsaw.scramble(tiles, rng), training=False))
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize(
    "options", [[], ["--p", "3", "--estimator", "dlax", "--noise-scale", "1"]], ids=str
)
def test_main(options, tmp_path, capsys):
    output = tmp_path / "pictures" / "jigsaw.png"
    results = jigsaw.main([*SMALL, *options, "--output", str(output)])
    assert output.stat().st_size > 1000
    assert len(results) == 2
    for row in results.values():
        assert np.isfinite(list(row.values())).all()
        assert 0 <= row["images right"] <= row["tiles right"] <= 1
        assert row["pixel MSE"] > 0
    printed = capsys.readouterr().out
    assert ("dlax                     yes" if options else "concrete                 NO") in printed


@pytest.mark.slow
def test_digits_are_reassembled(tmp_path):
    results = jigsaw.main(["--p", "2", "--output", str(tmp_path / "jigsaw.png")])
    assert results["scrambled"]["images right"] < 0.2
    assert results["concrete"]["images right"] > 0.8

"""Hard attention, small: canvases, glimpses, their cost, and a run of the script."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import hard_attention
from canvases import DIGIT, MARGIN, PIECE, PIECES, SIDE, Canvases, digit_images, place
from hard_attention import STEP


def test_canvases_hold_the_digit_and_keep_the_clutter_off_it(rng):
    # The image is all threes and the clutter all ones, so it shows what lies where.
    images = np.ones((50, DIGIT, DIGIT), np.uint8)
    images[0] = 3
    rows = np.zeros(200, int)
    cluttered = 0
    canvases, corners = place(images, rows, rng)
    assert canvases.shape == (200, SIDE, SIDE)
    assert corners.min() >= 0
    assert corners.max() <= SIDE - DIGIT
    for canvas, (y, x) in zip(canvases, corners, strict=True):
        assert np.all(canvas[y : y + DIGIT, x : x + DIGIT] == 3)
        rest = canvas.copy()
        rest[y : y + DIGIT, x : x + DIGIT] = 0
        cluttered += np.any(rest)
    assert cluttered == 200

    images[0] = 0
    canvases, corners = place(images, rows, rng)
    for canvas, (y, x) in zip(canvases, corners, strict=True):
        inner = slice(y + MARGIN, y + DIGIT - MARGIN), slice(x + MARGIN, x + DIGIT - MARGIN)
        assert np.all(canvas[inner] == 0)
        assert 0 < canvas.sum() <= PIECES * PIECE**2


def test_batches_are_fresh_and_repeat_with_the_seed(rng):
    images = rng.integers(0, 256, (20, DIGIT, DIGIT)).astype(np.uint8)
    labels = np.arange(20)

    def two():
        batches = Canvases(images, labels, 2, 8, seed=3)
        return batches[0], batches[0]

    (first, y), (second, _) = two()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(two()[0][0], first)
    np.testing.assert_array_equal(two()[0][1], y)


def test_small_digits_are_doubled_and_framed():
    image = np.arange(64.0)[None] / 255
    [large] = digit_images(image)
    assert large.shape == (DIGIT, DIGIT)
    assert large.sum() == 4 * np.arange(64).sum()
    np.testing.assert_array_equal(large[6:22:2, 7:22:2].ravel(), np.arange(64))
    same = digit_images(np.linspace(0, 1, 784)[None])
    np.testing.assert_array_equal(same[0].ravel(), np.round(255 * np.linspace(0, 1, 784)))


@pytest.mark.parametrize("glimpse", [8, 24])
def test_a_one_hot_choice_and_a_crop_are_the_pixels_at_the_position(rng, glimpse):
    canvas = rng.normal(size=(3, SIDE, SIDE, 1)).astype("float32")
    across = hard_attention.positions(glimpse)
    assert STEP * (across - 1) + glimpse <= SIDE < STEP * across + glimpse
    index = np.array([[0, across + 2], [across**2 - 1, 1], [across, 5]])
    expected = np.empty((3, 2, glimpse**2), "float32")
    for example, places in enumerate(index):
        for k, where in enumerate(places):
            y, x = STEP * (where // across), STEP * (where % across)
            expected[example, k] = canvas[example, y : y + glimpse, x : x + glimpse, 0].ravel()
    one_hot = tf.one_hot(index, across**2)
    products = hard_attention.Glimpses(glimpse)(canvas, one_hot)
    np.testing.assert_array_equal(products, expected)
    crops = hard_attention.Crops(glimpse)(canvas, tf.constant(index, tf.int32))
    np.testing.assert_array_equal(crops, expected)


def test_the_coarse_view_averages():
    canvas = np.arange(SIDE**2, dtype="float32").reshape(1, SIDE, SIDE, 1)
    view = np.asarray(hard_attention.CoarseView()(canvas))
    assert view.shape == (1, SIDE // STEP, SIDE // STEP, 1)
    np.testing.assert_allclose(view[0, 1, 2, 0], canvas[0, STEP : 2 * STEP, 8:12, 0].mean())


@pytest.mark.parametrize("patches", [1, 2])
def test_the_served_network_is_the_trained_one(rng, patches):
    network = hard_attention.attentive(24, patches)
    for weight in network.parts[-1].weights:
        weight.assign(0.1 * rng.normal(size=weight.shape))
    canvas = rng.integers(0, 256, (4, SIDE, SIDE)).astype(np.uint8)
    logits, index = network.served.predict(canvas, verbose=0)
    assert index.shape == (4, patches)
    assert len(np.unique(index)) > 1
    np.testing.assert_allclose(network.model.predict(canvas, verbose=0), logits, atol=1e-5)
    # Nothing but the pixels of the glimpses goes into the answer.
    answer, what = network.parts[:2]
    across = hard_attention.positions(24)
    corners = STEP * np.stack(np.divmod(index, across), axis=-1)
    crops = [
        canvas[example, y : y + 24, x : x + 24] for example in range(4) for y, x in corners[example]
    ]
    features = what.predict(np.stack(crops)[..., None], verbose=0).reshape(4, patches, -1)
    by_hand = answer.predict(features.mean(axis=1), verbose=0)
    np.testing.assert_allclose(logits, by_hand, atol=1e-5)


@pytest.mark.parametrize("estimator", ["relax", "reinforce"])
def test_labels_alone_teach_where_to_look(rng, estimator):
    """Gradients reach the scores though no label says where the digit is."""
    network = hard_attention.attentive(24, 1)
    network.model.compile(
        "adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        estimator=estimator,
    )
    canvas = rng.integers(0, 256, (4, SIDE, SIDE, 1)).astype("float32")
    step = network.model.differentiate(tf.constant(canvas), tf.constant([1, 2, 3, 4]))
    where = network.parts[-1]
    gradients = dict(zip([v.path for v in step.variables], step.gradients, strict=True))
    last = gradients[where.layers[-2].kernel.path]
    assert np.any(np.asarray(last) != 0)


def test_multiplications_by_hand():
    tower = hard_attention.tower(8, blocks=2)
    convolutions = 8 * 8 * 9 * 16 + 4 * 4 * 9 * 16 * 32
    assert hard_attention.multiplications(tower) == convolutions + 2 * 2 * 32 * 128


def test_the_budget_is_a_quarter():
    network = hard_attention.attentive(24, 1)
    assert network.pixels == 15**2 + 24**2
    assert network.pixels < SIDE**2 / 4
    parts = sum(hard_attention.multiplications(part) for part in network.parts)
    full = hard_attention.inattentive("full")
    assert parts < sum(hard_attention.multiplications(part) for part in full.parts) / 3


def test_main(tmp_path, capsys):
    arguments = ["--steps", "1", "--batch-size", "4", "--held-out", "20", "--output", str(tmp_path)]
    results = hard_attention.main([*arguments, "--networks", "relax", "coarse"])
    assert list(results) == ["relax", "coarse"]
    for row in results.values():
        assert all(np.isfinite(value) for value in row[:-1])
        assert len(row.curve) == 1
    assert (tmp_path / "hard_attention.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "multiplications" in printed
    assert "22.2%" in printed


def test_main_refuses_unknown_networks(capsys):
    with pytest.raises(SystemExit):
        hard_attention.main(["--networks", "guess"])
    assert "no network is called guess" in capsys.readouterr().err


@pytest.mark.slow
def test_attention_learns_to_find_the_digit(tmp_path):
    arguments = ["--steps", "1000", "--held-out", "1000", "--output", str(tmp_path)]
    results = hard_attention.main([*arguments, "--networks", "relax"])
    assert results["relax"].accuracy > 0.8  # a glimpse at random reads less than half

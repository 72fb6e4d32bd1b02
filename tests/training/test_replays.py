"""A recorded pass that is run again: at its own samples, and at relaxed ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import modes
from tests.training.objectives import run
from tests.training.passes import ARCHITECTURES, Spy, look, replay_every_level
from tf_relax import RelaxModel
from tf_relax.layers import RelaxBernoulli


@modes
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replay_at_the_recorded_samples_repeats_the_recorded_pass(architecture, mode, x, y):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, architecture(inputs))
    model.compile("sgd", loss="mse", estimator=Spy(replay_every_level), batch_coupled=False)
    (f, replays), _ = look(model, x, y, mode)
    assert len(np.unique(f)) == len(f)  # a constant would repeat whatever the replay did
    for replayed in replays:
        np.testing.assert_allclose(replayed, f, rtol=1e-5)


@modes
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_passes_on_the_recorded_samples_repeat_the_recorded_pass(architecture, mode, x, y):
    """Samples that are given, and samples that the noise of the pass makes again."""

    def repeat(one):
        forced = one.forced([site.b for site in one.sites])
        resampled = [one.signal(one.resampled(level, 0)) for level in one.sites.levels()]
        pairs = zip(forced.sites, one.sites, strict=True)
        return one.f, [forced.f, *resampled], [(new.b, site.b) for new, site in pairs]

    inputs = keras.Input((3,))
    model = RelaxModel(inputs, architecture(inputs))
    model.compile("sgd", loss="mse", estimator=Spy(repeat), batch_coupled=False)
    (f, repeated, samples), _ = look(model, x, y, mode)
    assert len(np.unique(f)) == len(f)
    for values in repeated:
        np.testing.assert_allclose(values, f, rtol=1e-5)
    for new, recorded in samples:
        np.testing.assert_array_equal(new, recorded)


def relaxed(z):
    return 1 / (1 + np.exp(-z / 0.5))


@modes
def test_replay_relaxes_a_level_and_what_depends_on_it_with_the_noise_of_the_pass(mode, x, y):
    """Three sites in a row against NumPy: hard before the level, given at it, recomputed after."""
    layers = [RelaxBernoulli() for _ in range(3)]
    dense = [keras.layers.Dense(2) for _ in range(3)]
    inputs = keras.Input((3,))
    value = inputs
    for linear, layer in zip(dense, layers, strict=True):
        value = layer(linear(value))
    model = RelaxModel(inputs, value)
    for linear in dense:
        linear.bias.assign([0.5, -0.25])
    shift = 0.75

    def replay_shifted(one):
        levels = one.sites.levels()
        values = [one.relaxed(level, [site.z + shift for site in level]) for level in levels]
        return values, [(site.z, site.b, site.draw.noise) for site in one.sites]

    model.compile("sgd", loss="mse", estimator=Spy(replay_shifted, 0.5))
    (replays, sites), _ = look(model, x, y, mode)
    assert len(replays) == 3
    for level, replayed in enumerate(replays):
        value = sites[level - 1][1] if level else x
        value = relaxed(sites[level][0] + shift)
        for later in range(level + 1, 3):
            kernel, bias = (np.asarray(w) for w in dense[later].weights)
            value = relaxed(value @ kernel + bias + sites[later][2])
        np.testing.assert_allclose(replayed, ((value - y) ** 2).mean(axis=1), rtol=1e-5)


@modes
def test_replay_leaves_earlier_and_parallel_sites_as_they_must_be(mode, x, y):
    """The sum of a hard chain and a site beside it: only what is replayed may move."""
    inputs = keras.Input((3,))
    first = RelaxBernoulli()(keras.layers.Dense(2)(inputs))
    second = RelaxBernoulli()(keras.layers.Dense(2)(first))
    beside = RelaxBernoulli()(keras.layers.Dense(2)(inputs))
    model = RelaxModel(inputs, {"first": first, "second": second, "beside": beside})
    outputs = []

    def keep_prediction(y_true, y_pred):
        outputs.append(y_pred)
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)

    def last_level(one):
        outputs.clear()
        level = one.sites.levels()[-1]
        one.relaxed(level, [site.z for site in level])
        return list(outputs), [(site.z, site.b) for site in one.sites]

    names = ["beside", "first", "second"]
    model.compile(
        "sgd",
        loss=dict.fromkeys(names, keep_prediction),
        estimator=Spy(last_level, 0.5),
        run_eagerly=True,
    )
    step = run(
        lambda: [
            model.differentiate(tf.constant(x), dict.fromkeys(names, tf.constant(y))),
            model.estimator.seen,
        ][1],
        mode,
    )
    values, sites = keras.tree.map_structure(np.asarray, step)
    order = {"first": 0, "second": 1, "beside": 2}
    got = dict(zip(names, values, strict=True))
    np.testing.assert_array_equal(got["first"], sites[order["first"]][1])
    if mode == "graph":  # first and beside share level 0, so `second` alone is replayed
        np.testing.assert_allclose(got["second"], relaxed(sites[1][0]), rtol=1e-5)
        np.testing.assert_array_equal(got["beside"], sites[2][1])
    else:  # a level of its own for every call, in their order
        np.testing.assert_array_equal(got["second"], sites[1][1])
        np.testing.assert_allclose(got["beside"], relaxed(sites[2][0]), rtol=1e-5)


@modes
def test_dropout_is_fresh_in_every_step(mode):
    """The samples cannot differ at logits of 80, so what differs are the masks."""
    inputs = keras.Input((3,))
    code = keras.layers.Dropout(0.5)(RelaxBernoulli()(80 * inputs))
    model = RelaxModel(inputs, code)
    model.compile("sgd", loss="mse", estimator=Spy(replay_every_level))
    x = np.ones((20, 3), "float32")

    def step():
        result = model.differentiate(tf.constant(x), tf.constant(x))
        return model.estimator.seen[1][0], result.y_pred

    step = step if mode == "eager" else tf.function(step)
    (first_replay, first), (second_replay, second) = step(), step()
    assert set(np.unique(first)) == {0.0, 2.0}
    assert (np.asarray(first) != np.asarray(second)).any()
    for replayed, prediction in ((first_replay, first), (second_replay, second)):
        np.testing.assert_allclose(replayed, np.mean((prediction - x) ** 2, axis=1), rtol=1e-6)

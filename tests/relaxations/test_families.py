"""Every family: probabilities, scores, conditional samples and their derivatives."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tests.relaxations.families import RELAXATIONS

families = pytest.mark.parametrize("family", RELAXATIONS, ids=lambda family: family.name)


def logits(family, rng, batch=5, scale=1.0, dtype="float64"):
    return tf.constant(scale * rng.normal(size=(batch, *family.event)), dtype)


def drawn(family, a, seed=0):
    relaxation = family.relaxation
    noise = relaxation.noise(relaxation.noise_shape(a.shape), a.dtype, seed)
    return relaxation, relaxation.sample(a, noise)


def more_noise(relaxation, a, seed):
    return relaxation.noise(relaxation.noise_shape(a.shape), a.dtype, seed)


def every_outcome(family, a):
    """One row of logits with every outcome: the draws, and their probabilities."""
    relaxation = family.relaxation
    outcomes = relaxation.outcomes(family.shape)
    repeated = tf.repeat(a[:1], len(outcomes), axis=0)
    draws = relaxation.forced(repeated, tf.constant(outcomes))
    log_prob = relaxation.log_prob(repeated, draws)
    return draws, np.exp(np.asarray(log_prob).reshape(len(outcomes), -1).sum(axis=1))


def derivative(f, a, h, step=1e-3):
    """``(df/da)^T h`` by central differences of sixth order, entry by entry of one row of a."""
    result, weights = np.zeros(a.shape), {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    for index in np.ndindex(*a.shape):
        total = 0.0
        for k, weight in weights.items():
            for sign in (1, -1):
                moved = np.array(a)
                moved[index] += sign * k * step
                total += sign * weight * np.sum(np.asarray(f(tf.constant(moved))) * h)
        result[index] = total / step
    return result


@families
def test_probabilities_of_all_outcomes_sum_to_one(family, rng):
    draws, p = every_outcome(family, logits(family, rng, 1))
    assert len(p) == family.outcomes
    count = family.relaxation.num_outcomes(family.shape)
    assert count == family.outcomes
    assert len(np.unique(np.asarray(family.relaxation.outcome(draws)), axis=0)) == len(p)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-12)
    assert p.min() > 0


@families
def test_samples_have_those_probabilities(family, rng):
    a = tf.repeat(logits(family, rng, 1), 20_000, axis=0)
    relaxation, draw = drawn(family, a)
    found = np.asarray(relaxation.outcome(draw)).reshape(len(a), -1)
    draws, p = every_outcome(family, a)
    listed = np.asarray(relaxation.outcome(draws)).reshape(len(p), -1)
    position = {row.tobytes(): k for k, row in enumerate(listed.astype(found.dtype))}
    counts = np.bincount([position[row.tobytes()] for row in found], minlength=len(p))
    assert stats.chisquare(counts, p * len(a)).pvalue > 1e-4
    for k in (0, len(p) - 1):  # the same outcome looks the same, forced or drawn
        same = np.flatnonzero((found == listed[k]).all(axis=1))
        if len(same):
            np.testing.assert_array_equal(draw.b[same[0]], draws.b[k])


@families
def test_score_is_the_derivative_of_log_prob(family, rng):
    a = logits(family, rng, 1)
    relaxation, draw = drawn(family, a)

    def log_prob(moved):
        return tf.reduce_sum(relaxation.log_prob(moved, draw))

    expected = derivative(log_prob, a, np.ones(()))
    np.testing.assert_allclose(relaxation.score(a, draw), expected, atol=1e-9, rtol=0)


@families
def test_conditional_samples_give_the_same_outcome(family, rng):
    a = logits(family, rng, 200)
    relaxation, draw = drawn(family, a)
    z_tilde = relaxation.conditional(a, draw, more_noise(relaxation, a, 1))
    again = relaxation.sample(z_tilde, tf.zeros_like(z_tilde))
    np.testing.assert_array_equal(relaxation.outcome(again), relaxation.outcome(draw))
    np.testing.assert_array_equal(again.b, draw.b)
    assert np.abs(z_tilde - draw.z).max() > 0.1


@families
def test_conditional_samples_are_distributed_as_samples(family, rng):
    """Over the outcomes, z~ has the distribution of z, alone and together with b."""
    a = tf.repeat(logits(family, rng, 1), 20_000, axis=0)
    relaxation, draw = drawn(family, a)
    z_tilde = relaxation.conditional(a, draw, more_noise(relaxation, a, 1))
    _, other = drawn(family, a, seed=2)
    for index in np.ndindex(*family.event):
        at = (slice(None), *index)
        assert stats.ks_2samp(z_tilde[at], other.z[at]).pvalue > 1e-5, index
    first = np.asarray(draw.b).reshape(len(a), -1)[:, 0] == 1
    second = np.asarray(other.b).reshape(len(a), -1)[:, 0] == 1
    if 0 < first.mean() < 1:
        for index in np.ndindex(*family.event):
            at = (slice(None), *index)
            pair = np.asarray(z_tilde[at])[first], np.asarray(other.z[at])[second]
            assert stats.ks_2samp(*pair).pvalue > 1e-5, index


@families
def test_derivative_of_conditional_samples(family, rng):
    a = logits(family, rng, 1)
    relaxation, draw = drawn(family, a)
    noise = more_noise(relaxation, a, 1)
    z_tilde = relaxation.conditional(a, draw, noise)
    h = rng.normal(size=z_tilde.shape)

    def conditional(moved):
        return relaxation.conditional(moved, draw, noise)

    found = relaxation.conditional_vjp(a, draw, z_tilde, tf.constant(h))
    np.testing.assert_allclose(found, derivative(conditional, a, h), atol=1e-9, rtol=0)
    # Coupled: z in the place of z~, whose own derivative is that of a + noise.
    coupled = relaxation.delta_vjp(a, draw._replace(z=z_tilde), tf.constant(h))
    np.testing.assert_allclose(coupled, h - derivative(conditional, a, h), atol=1e-9, rtol=0)


@families
def test_relaxed_score(family, rng):
    """The density of z is that of its noise at z - a."""
    a = logits(family, rng, 1)
    relaxation, draw = drawn(family, a)
    gumbel = not np.any(np.asarray(draw.noise) < -8) and "stick" not in family.name
    density = stats.gumbel_r if gumbel else stats.logistic

    def log_density(moved):
        return density.logpdf(np.asarray(draw.z) - np.asarray(moved)).sum()

    expected = derivative(log_density, a, np.ones(()))
    np.testing.assert_allclose(relaxation.relaxed_score(a, draw), expected, atol=1e-9, rtol=0)


@families
def test_relaxed_samples_are_continuous_and_turn_hard(family, rng):
    a = logits(family, rng, 50)
    relaxation, draw = drawn(family, a)
    cold = relaxation.relax(draw.z, tf.constant(1e-4, "float64"))
    hard = np.abs(np.asarray(cold) - np.asarray(draw.b)).reshape(50, -1).max(axis=1) < 1e-3
    if family.name not in ("arborescence", "sparse"):  # whose relaxation is a tree of its own
        assert hard.mean() >= 0.9
    for t in (0.1, 1.0):
        y = relaxation.relax(draw.z, tf.constant(t, "float64"))
        moved = relaxation.relax(draw.z + 1e-7, tf.constant(t, "float64"))
        assert y.shape == draw.b.shape
        assert float(tf.reduce_min(y)) >= -1e-9
        np.testing.assert_allclose(y, moved, atol=1e-4)


@families
@pytest.mark.parametrize("size", [20.0, 80.0])
def test_float32_at_large_logits(family, size, rng):
    """All quantities within 1e-5 of those in float64, from the same numbers."""
    a = tf.constant(rng.choice([-size, size, 0.3], (200, *family.event)), "float32")
    relaxation, draw = drawn(family, a)
    noise = more_noise(relaxation, a, 1)
    h = tf.constant(rng.normal(size=draw.z.shape), "float32")

    def double(x):
        return tf.nest.map_structure(
            lambda t: tf.cast(t, "float64") if t is not None and t.dtype.is_floating else t, x
        )

    found = quantities(relaxation, a, draw, noise, h)
    expected = quantities(relaxation, *double((a, draw, noise, h)))
    for name, value in found.items():
        assert np.isfinite(value).all(), name
        scale = 1 + np.abs(expected[name])
        assert (np.abs(value - expected[name]) / scale).max() < 1e-5, name
    z_tilde = relaxation.conditional(a, draw, noise)
    again = relaxation.sample(z_tilde, tf.zeros_like(z_tilde))
    # Rounding may make two values of z~ equal, where the next would be smaller.
    same = np.asarray(again.b == draw.b).reshape(200, -1).all(axis=1)
    assert same.mean() > 0.9


def quantities(relaxation, a, draw, noise, h):
    t = tf.constant(0.5, a.dtype)
    return {
        name: np.asarray(value, "float64")
        for name, value in {
            "log_prob": relaxation.log_prob(a, draw),
            "score": relaxation.score(a, draw),
            "relaxed_score": relaxation.relaxed_score(a, draw),
            "conditional": relaxation.conditional(a, draw, noise),
            "delta_vjp": relaxation.delta_vjp(a, draw, h),
            "conditional_vjp": relaxation.conditional_vjp(a, draw, draw.z, h),
            "relax": relaxation.relax(draw.z, t),
        }.items()
    }


@families
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
def test_compiled(family, jit_compile, rng):
    """From the same noise, a graph and XLA compute what eager code does."""
    a = logits(family, rng)
    relaxation, draw = drawn(family, a)
    noise, h = more_noise(relaxation, a, 1), tf.constant(rng.normal(size=a.shape))

    @tf.function(jit_compile=jit_compile, autograph=False)
    def compiled():
        again = relaxation.sample(a, draw.noise)
        z_tilde = relaxation.conditional(a, again, noise)
        return again.b, z_tilde, relaxation.score(a, again), relaxation.delta_vjp(a, again, h)

    b, z_tilde, score, delta = compiled()
    np.testing.assert_array_equal(b, draw.b)
    np.testing.assert_allclose(z_tilde, relaxation.conditional(a, draw, noise), atol=1e-10)
    np.testing.assert_allclose(score, relaxation.score(a, draw), atol=1e-10)
    np.testing.assert_allclose(delta, relaxation.delta_vjp(a, draw, h), atol=1e-10)


@families
def test_examples_do_not_reach_each_other(family, rng):
    a = logits(family, rng, 3)
    relaxation, draw = drawn(family, a)
    noise = more_noise(relaxation, a, 1)
    h = tf.constant(rng.normal(size=a.shape))
    together = quantities(relaxation, a, draw, noise, h)
    for k in range(3):
        one = relaxation.sample(a[k : k + 1], draw.noise[k : k + 1])
        alone = quantities(relaxation, a[k : k + 1], one, noise[k : k + 1], h[k : k + 1])
        np.testing.assert_array_equal(one.b[0], draw.b[k])
        for name, value in alone.items():
            np.testing.assert_allclose(value[0], together[name][k], atol=1e-12, err_msg=name)


@families
def test_leading_dimensions_are_independent_choices(family, rng):
    a = logits(family, rng, 6)
    relaxation, draw = drawn(family, a)
    noise = more_noise(relaxation, a, 1)
    h = tf.constant(rng.normal(size=a.shape))
    flat = quantities(relaxation, a, draw, noise, h)
    a, noise, h, first = (tf.reshape(x, (2, 3, *family.event)) for x in (a, noise, h, draw.noise))
    found = quantities(relaxation, a, relaxation.sample(a, first), noise, h)
    for name in ("score", "conditional", "delta_vjp"):
        np.testing.assert_allclose(
            found[name].reshape(flat[name].shape), flat[name], atol=1e-12, err_msg=name
        )

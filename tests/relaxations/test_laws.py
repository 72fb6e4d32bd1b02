"""Numbers that repel each other keep their law, and do repel each other."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tf_relax.relaxations import GUMBEL, LOGISTIC, NORMAL

LAWS = {
    "logistic": (LOGISTIC, scipy.stats.logistic),
    "gumbel": (GUMBEL, scipy.stats.gumbel_r),
    "normal": (NORMAL, scipy.stats.norm),
}
BOTH = pytest.mark.parametrize("name", LAWS)


@BOTH
def test_reflection_is_the_quantile_of_the_other_tail(name):
    """In float64 over all that can be drawn, and back again."""
    law, known = LAWS[name]
    u = np.concatenate([10.0 ** np.arange(-15, -1), np.linspace(0.05, 0.95, 7)])
    lower, upper = known.ppf(u), known.isf(u)
    np.testing.assert_allclose(law.reflected(tf.constant(lower)), upper, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(law.reflected(tf.constant(upper)), lower, rtol=1e-10, atol=1e-12)


@BOTH
def test_the_ends_of_float32_stay_finite(name):
    """The extreme numbers that are drawn, reflected, and among others."""
    law, known = LAWS[name]
    u = np.array([2.0**-24, 0.5, 1 - 2.0**-24])
    noise = tf.constant(known.ppf(u), tf.float32)
    reflected = law.reflected(noise).numpy()
    np.testing.assert_allclose(reflected, known.isf(u), rtol=2e-5)
    grid = [tf.constant(g.ravel()) for g in np.meshgrid(*[noise.numpy()] * 3)]
    assert np.isfinite(np.stack(law.antithetic(grid))).all()


@BOTH
@pytest.mark.parametrize("count", [2, 3, 4])
def test_each_keeps_its_law_and_repels_the_others(name, count, seed):
    """Kolmogorov-Smirnov at 1e-6, and correlations of all pairs, of 100,000."""
    law, known = LAWS[name]
    noises = tf.unstack(law.draw((count, 100_000), "float64", seed))
    drawn = np.stack(law.antithetic(noises))
    for one in drawn:
        assert scipy.stats.kstest(one, known.cdf).pvalue > 1e-6
    u = known.cdf(drawn)
    correlations = np.corrcoef(u)[np.triu_indices(count, 1)]
    assert np.all(correlations < {2: -0.9999, 3: -0.32, 4: -0.11}[count])
    # The mean of two uniforms is 1/2; that of more has 1 / K of the variance of independent ones,
    # by rotation, and of numbers that are jointly normal even less.
    variance = np.var(u.mean(axis=0)) * 12 * count
    assert variance < {2: 1e-9}.get(count, 1.02 / count)


@pytest.mark.parametrize("name", ["logistic", "gumbel"])
def test_rotation_leaves_one_number_in_every_part(name, seed):
    law, known = LAWS[name]
    noises = tf.unstack(law.draw((5, 1000), "float64", seed))
    u = np.sort(known.cdf(np.stack(law.antithetic(noises))), axis=0)
    np.testing.assert_array_equal(np.floor(u * 5 - 1e-9), np.tile(np.arange(5)[:, None], 1000))
    np.testing.assert_allclose(np.diff(u, axis=0), 0.2, atol=1e-9)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_exchangeable_numbers_depend_alike_in_all_pairs(count, seed):
    noises = tf.unstack(LOGISTIC.draw((count, 100_000), "float64", seed))
    drawn = np.stack(LOGISTIC.exchangeable(noises))
    for one in drawn:
        assert scipy.stats.kstest(one, scipy.stats.logistic.cdf).pvalue > 1e-6
    correlations = np.corrcoef(scipy.stats.logistic.cdf(drawn))[np.triu_indices(count, 1)]
    assert np.all(correlations < {2: -0.9999, 3: -0.4, 4: -0.25}[count])
    # 5 standard errors of the difference of two such correlations.
    assert np.ptp(correlations) < 5 * np.sqrt(2 / 100_000)


def test_one_number_stays_what_it_is():
    noise = tf.constant([0.3, -1.0])
    assert LOGISTIC.antithetic([noise])[0] is noise

"""Moments against NumPy, and the test for a bias against what it claims."""

import numpy as np
import pytest
import scipy.stats

from tf_relax._src.audit.moments import Moments, bias


def test_moments_are_numpys(rng):
    draws = 1e4 + rng.standard_normal((50, 3, 4)).astype("float32")
    moments = Moments()
    for x in draws:
        moments.add(x)
    np.testing.assert_allclose(moments.mean, draws.astype("float64").mean(axis=0), rtol=1e-12)
    variance = draws.astype("float64").var(axis=0, ddof=1)
    np.testing.assert_allclose(moments.variance, variance, rtol=1e-8)
    assert moments.mean_variance == pytest.approx(variance.mean())


def test_joined_parts_are_the_whole(rng):
    draws = rng.standard_normal((20, 7))
    parts = [Moments(), Moments()]
    whole = Moments()
    for x in draws:
        parts[0].add(x[:3].reshape(3, 1))
        parts[1].add(x[3:])
        whole.add(x)
    joined = Moments.joined(parts)
    np.testing.assert_allclose(joined.variance, whole.variance)
    assert joined.snr == pytest.approx(whole.snr)


def test_snr_of_known_signal(rng):
    moments = Moments()
    for _ in range(4000):
        moments.add(np.array([3.0, 4.0]) + 2 * rng.standard_normal(2))
    assert moments.snr == pytest.approx(5 / np.sqrt(8), rel=0.05)


def test_z_is_standard_normal_without_a_bias(rng):
    """Correlated elements of very different noise; fails once in 10^6 runs (Kolmogorov-Smirnov)."""
    mix = rng.standard_normal((6, 6)) * 10.0 ** np.arange(-3, 3)[:, None]
    z = []
    for _ in range(400):
        g, r = rng.standard_normal((2, 200, 6)) @ mix
        z.append(bias(g, r).z)
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-6


def test_a_bias_shows(rng):
    g, r = rng.standard_normal((2, 4000, 50))
    r += 1.0
    g += 1.0
    g[:, 7] += 0.5
    found = bias(g, r)
    assert found.z > 6
    assert found.relative == pytest.approx(0.5 / np.sqrt(50), rel=0.3)


def test_an_exact_reference_has_no_noise(rng):
    exact = np.tile([[1.0, 2.0]], (8, 1))
    assert bias(exact, exact).z == 0
    assert abs(bias(exact + 1e-3, exact).z) == np.inf
    assert abs(bias(exact[0] + rng.standard_normal((500, 2)), exact).z) < 5

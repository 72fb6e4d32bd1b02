"""The analysis of surrogates: its estimates against formulas, and what its figure is there for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import surrogate_analysis
from surrogate_analysis import ESTIMATORS, FIXED, Z
from tests.oracles import sigmoid

LOGIT = -0.7


def untrained(estimator, logit=LOGIT):
    keras.utils.set_random_seed(0)
    return surrogate_analysis.Fixed(estimator, 0.45, logit, steps=10, jit_compile=False)


def test_estimate_of_a_fixed_surrogate_is_its_formula():
    one = untrained(FIXED).analyse()
    z, t, rate = Z.astype("float64"), 0.45, 1 / surrogate_analysis.FIXED_TEMPERATURE
    b, y = (z > 0).astype("float64"), sigmoid(z * rate)
    s = b - sigmoid(LOGIT)
    side = np.sign(z)
    c, derivative = (y - t) ** 2, 2 * (y - t) * y * (1 - y) * rate
    # z~ = side softplus(l' + softplus(side a)) at z~ = z.
    coupled = sigmoid(side * LOGIT) * (1 - np.exp(-np.abs(z)))
    expected = ((b - t) ** 2 - c) * s + (1 - coupled) * derivative
    np.testing.assert_allclose(one.surrogate, c, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one.gradient, expected, rtol=1e-4, atol=1e-5)


def test_reinforce_is_right_on_one_side_only():
    one = untrained("reinforce").analyse()
    p = sigmoid(LOGIT)
    expected = np.where(Z > 0, 0.55**2 * (1 - p), -(0.45**2) * p)
    np.testing.assert_allclose(one.gradient, expected, rtol=1e-4)
    assert one.right == pytest.approx(p, rel=1e-4)
    np.testing.assert_array_equal(one.surrogate, 0)


@pytest.mark.parametrize("estimator", ["rebar", "relax"])
def test_only_the_surrogate_learns(estimator):
    fixed = untrained(estimator)
    before = fixed.analyse()
    fixed.learn(tf.constant(10))
    after = fixed.analyse()
    np.testing.assert_allclose(fixed.logit, [[LOGIT]])
    assert not np.array_equal(before.surrogate, after.surrogate)
    assert after.variance < before.variance
    assert before.mean == pytest.approx(before.exact, abs=1e-5)
    assert after.mean == pytest.approx(after.exact, abs=1e-5)


def test_command_shows_what_it_is_there_for(tmp_path, capsys):
    path = tmp_path / "figures" / "surrogate_analysis.png"
    arguments = ["--t", "0.45", "--steps", "300", "--no-jit", "--output", str(path)]
    analyses = surrogate_analysis.main(arguments)[0.45]

    assert path.read_bytes().startswith(b"\x89PNG")
    assert tuple(analyses) == ESTIMATORS
    relax, others = analyses["relax"], [analyses[e] for e in ESTIMATORS if e != "relax"]
    assert relax.right == pytest.approx(1)
    for other in others:
        assert other.right == pytest.approx(0.5, abs=0.02)
        assert relax.variance < other.variance / 100
    # The surrogate that leaves no noise is the constant P f(1) + (1 - P) f(0).
    likely = np.abs(Z) < 3
    best = (0.55**2 + 0.45**2) / 2
    np.testing.assert_allclose(relax.surrogate[likely], best, atol=0.03)

    lines = capsys.readouterr().out.splitlines()
    for estimator, one in analyses.items():
        cells = [line[14:].split() for line in lines if line[:15].rstrip() == estimator]
        assert float(cells[0][0]) == pytest.approx(one.variance, rel=1e-2)
        assert float(cells[0][1]) == pytest.approx(one.exact, abs=1e-5)

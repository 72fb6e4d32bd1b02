"""E[g] against the exact gradient: one unit, integrated over all noise."""

import numpy as np
import pytest
import tensorflow as tf

from tests.estimators.learned import set_learned
from tests.estimators.one_bernoulli import (
    Integrated,
    compiled,
    exact_gradients,
    mean_estimate,
    one_bernoulli,
)
from tests.estimators.rules import copula_probability, patterns
from tests.estimators.table import BERNOULLI, ROWS, UNBIASED
from tests.oracles import binary_strings
from tf_relax.estimators import Arms, Disarm, get, names

LOGITS = np.array([[-1.5], [0.25], [1.0]])

pytestmark = pytest.mark.usefixtures("float64")


def test_the_table_is_complete():
    rows = {type(row.estimator) for row in ROWS}
    proved = {type(row.estimator) for row in UNBIASED}
    for name in names():
        estimator = get(name)
        assert type(estimator) in rows, name
        assert not estimator.unbiased or type(estimator) in proved, name
    assert all(row.estimator.unbiased is (row in UNBIASED) for row in ROWS)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("row", BERNOULLI, ids=repr)
def test_one_bernoulli(row, kl):
    model = one_bernoulli(kl=kl)
    compiled(model, row.estimator, importance_samples=row.importance_samples)
    exact = exact_gradients(model, LOGITS, kl, row.importance_samples)
    np.testing.assert_allclose(mean_estimate(model, row, LOGITS), exact, atol=1e-9, rtol=0)


@pytest.mark.parametrize("row", [row for row in BERNOULLI if row.compiled], ids=repr)
def test_one_bernoulli_compiled(row):
    """The same from one trace, run as a graph and compiled by XLA."""
    model = one_bernoulli()
    compiled(model, row.estimator, importance_samples=row.importance_samples)
    exact = exact_gradients(model, LOGITS, "analytic", row.importance_samples)
    integrated = Integrated(model, row, LOGITS)
    graph = tf.function(integrated.estimate, autograph=False).get_concrete_function(
        *integrated.tensors
    )
    for run in (graph, tf.function(graph, autograph=False, jit_compile=True)):
        set_learned(model, integers=True)
        found = integrated.mean(run(*integrated.tensors))
        np.testing.assert_allclose(found, exact, atol=1e-9, rtol=0)


@pytest.mark.parametrize("logit", [-1.5, 0.25])
def test_two_arms_are_disarm(logit):
    """Value for value: the pair that ARMS makes is (l, -l), and so is the estimate."""
    model = one_bernoulli()
    rng = np.random.default_rng(0)
    raw = tf.constant(rng.logistic(size=(2, 50, 1)))
    pair = Arms(num_samples=2).couple(None, list(raw), tf.fill((50, 1), np.float64(logit)))
    np.testing.assert_allclose(pair[1], -pair[0], rtol=1e-12)
    x, y = tf.fill((50, 1), np.float64(logit)), tf.zeros((50, 1), "float64")
    found = []
    for estimator, noise in ((Arms(num_samples=2), raw), (Disarm(), tf.stack(pair))):
        compiled(model, estimator)
        found.append(model.differentiate(x, y, noise=[noise]).logit_gradients[0])
    assert len(np.unique(np.round(found[0], 9))) > 1
    np.testing.assert_allclose(found[0], found[1], atol=1e-14)


@pytest.mark.parametrize("num_samples", [2, 3, 4])
@pytest.mark.parametrize("logit", [-1.5, 0.25, 1.0])
def test_arms_draws_from_the_copula(num_samples, logit, rng):
    """Frequencies of all outcomes within 6.5 standard errors: false alarm in 1 of 10^6 runs."""
    draws = 100_000
    raw = list(tf.constant(rng.logistic(size=(num_samples, draws))))
    estimator = Arms(num_samples=num_samples)
    coupled = estimator.couple(None, raw, tf.fill((draws,), np.float64(logit)))
    b = logit + np.stack(coupled, axis=1) > 0
    total = 0.0
    for string in binary_strings(num_samples):
        p = copula_probability(string, logit)
        frequency = np.mean((b == string.astype(bool)).all(axis=1))
        assert abs(frequency - p) <= 6.5 * np.sqrt(p * (1 - p) / draws) + 1e-12, string
        total += p
    assert total == pytest.approx(1, abs=1e-12)
    # The correlation that the estimator divides by is that of these probabilities.
    mean = 1 / (1 + np.exp(-logit))
    both = sum(copula_probability(s, logit) for s in binary_strings(num_samples) if s[:2].all())
    correlation = (both - mean**2) / (mean * (1 - mean))
    found = estimator._decorrelation(tf.constant(logit, "float64"))
    assert float(found) == pytest.approx(1 - correlation, abs=1e-12)
    assert patterns(estimator, logit).weights.sum() == pytest.approx(1, abs=1e-12)

"""CARMS by stick-breaking, over all that a pair can do; three samples by draws."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.estimators import one_choice
from tests.estimators.one_choice import LOGITS
from tf_relax._src.estimators import sb_carms
from tf_relax.estimators import LeaveOneOut, SbCarms

float64 = pytest.mark.usefixtures("float64")


def pairs(logits):
    """Noise and probability of all that two samples can be: v is cut where the second changes."""
    p = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(p)
    left = np.cumsum(p[order][::-1])[::-1]
    s = p[order] / left
    noises, weights = [], []
    for rank in range(len(p)):
        first = np.zeros(len(p))
        first[order[rank]] = 50.0
        axes = []
        for m in range(len(p) - 1):
            # The second has u' = 1 - u < s: before the own stick u = s + (1 - s) v, after it u = v.
            cut = (1 - 2 * s[m]) / (1 - s[m]) if m < rank else 1 - s[m] if m > rank else 0.0
            axes.append([(cut / 2, cut), ((1 + cut) / 2, 1 - cut)])
        for pieces in itertools.product(*axes):
            v = np.array([*(point for point, _ in pieces), 0.5])
            weights.append(p[order[rank]] * np.prod([mass for _, mass in pieces]))
            gumbel = -np.log(-np.log(np.maximum(v, 1e-9)))
            noises.append([first, gumbel, np.zeros(len(p))])
    return np.array(noises).transpose(1, 0, 2), np.array(weights)


def mean_estimate(model, logits):
    noise, weights = pairs(logits)
    assert weights.sum() == pytest.approx(1)
    return weights @ one_choice.differentiated(model, logits, noise).logit_gradients[0].numpy()


@float64
@pytest.mark.parametrize("logits", [LOGITS, -LOGITS, 3 * LOGITS, 0 * LOGITS], ids=str)
def test_a_pair_is_unbiased(logits):
    model = one_choice.model_of(SbCarms(2))
    exact, _ = one_choice.exact_gradients(model, logits)
    np.testing.assert_allclose(mean_estimate(model, logits), exact, atol=1e-12, rtol=0)


@float64
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("order = tf.argsort(log_p, axis=-1)", "order = tf.argsort(-log_p, axis=-1)"),
        ("passed = 2 * tf", "passed = 1 * tf"),
        ("(f[i] - f[j], ", "(f[i] + f[j], "),
        ("(count * (count - 1))", "count**2"),
        ("share - tf.math.expm1(log_rest)", "share + tf.exp(log_rest)"),
    ],
)
def test_mutant_is_biased(right, wrong):
    kind = one_choice.mutant(sb_carms, "SbCarms", right, wrong)
    model = one_choice.model_of(kind(2))
    exact, _ = one_choice.exact_gradients(model, LOGITS)
    error = np.abs(mean_estimate(model, LOGITS) - exact)
    assert not error.max() < 1e-4


@float64
@pytest.mark.parametrize("count", [2, 3, 4])
def test_more_samples(count, seed):
    """z-scores of 200,000 draws, 4 of them, exceed 5 in one of 400,000 runs."""
    model = one_choice.model_of(SbCarms(count))
    rng = np.random.default_rng(seed)
    noise = rng.gumbel(size=(count + 1, 200_000, 4))
    g = one_choice.differentiated(model, LOGITS, noise).logit_gradients[0].numpy()
    exact, _ = one_choice.exact_gradients(model, LOGITS)
    error = g.std(axis=0) / np.sqrt(len(g))
    assert error.max() < 0.02 * np.abs(exact).max()
    assert np.all(np.abs(g.mean(axis=0) - exact) < 5 * error)


def test_float32_at_large_logits(rng):
    """What is as good as impossible, and as good as certain."""
    scale = tf.constant(10.0 ** rng.uniform(-1, 1.9, size=(5000, 1)), tf.float32)
    x = scale * tf.constant(rng.normal(size=(5000, 4)), tf.float32)
    model = one_choice.model_of(SbCarms(3))
    g = model.differentiate(x, tf.zeros((5000, 1))).logit_gradients[0].numpy()
    assert np.isfinite(g).all()
    np.testing.assert_allclose(g.sum(axis=1), 0, atol=1e-5)


@float64
def test_quieter_than_leaving_one_out(seed):
    model = one_choice.model_of(SbCarms(2))
    rng = np.random.default_rng(seed)
    variances = []
    for estimator, noises in ((SbCarms(2), 3), (LeaveOneOut(2), 2)):
        model.compile("sgd", "mse", estimator=estimator)
        noise = rng.gumbel(size=(noises, 50_000, 4))
        g = one_choice.differentiated(model, LOGITS, noise).logit_gradients[0].numpy()
        variances.append(g.var(axis=0).sum())
    assert variances[0] < 0.95 * variances[1]

"""Messages about `audit`, callbacks and metrics."""

import tensorflow as tf

from tests.messages.rows import Row, X, Y, model_of, plain_model, weighted
from tf_relax import audit
from tf_relax.callbacks import GradientVariance, Watch
from tf_relax.metrics import importance_weighted_bound

ROWS = [
    Row(
        "audit_uncompiled",
        lambda: audit(model_of(is_compiled=False), X, Y),
        ValueError,
        "Model 'model' is not compiled: call `compile` before `audit`.",
    ),
    Row(
        "audit_plain_model",
        lambda: audit(plain_model(), X, Y),
        TypeError,
        "`audit` measures the estimators of a tf_relax.RelaxModel. 'plain' is a Functional.",
    ),
    Row(
        "audit_samples",
        lambda: audit(model_of(), X, Y, num_samples=2),
        ValueError,
        "`num_samples` must be at least 8. Received: 2",
    ),
    Row(
        "audit_estimator",
        lambda: audit(model_of(), X, Y, ["relax", "lax"]),
        ValueError,
        (
            "Lax() differentiates the sample itself, and RelaxBernoulli 'code' draws discrete "
            "ones. Use 'relax', or 'leave_one_out'."
        ),
    ),
    Row(
        "audit_weighted",
        lambda: audit(weighted(estimator="vimco"), X, Y, ["relax"]),
        ValueError,
        (
            "Relax() estimates the gradient of a mean over samples, and importance_samples=3 asks "
            "for the logarithm of one. Use 'vimco' or 'reinforce', or one of the pathwise "
            "estimators."
        ),
    ),
    Row(
        "variance_frequency",
        lambda: GradientVariance(X, Y, frequency=0),
        ValueError,
        "GradientVariance: `frequency` must be at least 1. Received: 0",
    ),
    Row(
        "variance_of_a_plain_model",
        lambda: plain_model().fit(X, Y, callbacks=[GradientVariance(X, Y)], verbose=0),
        TypeError,
        (
            "GradientVariance measures the estimator of a tf_relax.RelaxModel. 'plain' is a "
            "Functional."
        ),
    ),
    Row(
        "watch_frequency",
        lambda: Watch(X, Y, frequency=0),
        ValueError,
        "Watch: `frequency` must be a whole number, at least 1. Received: 0",
    ),
    Row(
        "watch_gradients",
        lambda: Watch(X, Y, gradients=1),
        ValueError,
        "Watch: `gradients` must be a whole number, at least 2. Received: 1",
    ),
    Row(
        "watch_share",
        lambda: Watch(X, Y, dead_below=1.0),
        ValueError,
        "Watch: `dead_below` must lie in (0, 1). Received: 1.0",
    ),
    Row(
        "watch_data_set",
        lambda: Watch(tf.data.Dataset.from_tensor_slices((X, Y)).batch(2)),
        TypeError,
        (
            "Watch measures on one batch of arrays or tensors. Received: _BatchDataset. Take a "
            "batch out of it: x, y = next(iter(dataset))."
        ),
    ),
    Row(
        "watch_nothing",
        lambda: Watch(X[:0], Y[:0]),
        ValueError,
        (
            "Watch: `x` has no rows, so there is nothing to measure on. Pass a batch of inputs "
            "such as the first hundred of those that the model trains on."
        ),
    ),
    Row(
        "watch_plain_model",
        lambda: plain_model().fit(X, Y, callbacks=[Watch(X, Y)], verbose=0),
        TypeError,
        ("Watch measures the stochastic layers of a tf_relax.RelaxModel. 'plain' is a Functional."),
    ),
    Row(
        "bound_samples",
        lambda: importance_weighted_bound(model_of(), X, num_samples=0),
        ValueError,
        "`num_samples` must be at least 1. Received: 0",
    ),
    Row(
        "bound_uncompiled",
        lambda: importance_weighted_bound(model_of(is_compiled=False), X),
        ValueError,
        "Model 'model' is not compiled: call `compile` with the likelihood as its loss.",
    ),
    Row(
        "bound_without_prior",
        lambda: importance_weighted_bound(model_of(), X),
        ValueError,
        (
            "Model 'model' has no prior, so there is no likelihood to bound. Give its stochastic "
            "layers one, for example RelaxBernoulli(prior='learned')."
        ),
    ),
]

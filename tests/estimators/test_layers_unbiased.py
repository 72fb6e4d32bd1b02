"""Three Bernoullis in two layers: the gradient of every weight, from whole training steps."""

import numpy as np
import pytest

from tests.estimators import two_layers, two_layers_quadrature
from tests.estimators.table import (
    ANTITHETIC,
    OUTCOMES,
    QUADRATURE,
    STATISTICS,
    UNBIASED,
    on_two_layers,
)
from tf_relax.estimators import Disarm, MuProp, Relax, Rodeo, Vimco

pytestmark = pytest.mark.usefixtures("float64")

PARALLEL = (Rodeo, MuProp, Disarm, Vimco)


def assert_equal_gradients(found, exact):
    assert exact.keys() <= found.keys()
    for path, gradient in exact.items():
        np.testing.assert_allclose(found[path], gradient, atol=1e-9, rtol=0, err_msg=path)
    for layer in ("encoder", "logits_1", "between", "logits_2", "decoder"):
        assert max(np.abs(g).max() for path, g in exact.items() if layer in path) > 1e-3


@pytest.mark.parametrize("row", on_two_layers(OUTCOMES, ANTITHETIC), ids=repr)
def test_every_weight(row):
    """Every outcome of every sample; both divergences and the priors included."""
    model = two_layers.compiled(row)
    found = two_layers.mean_step(model, *two_layers.noise_and_weights(model, row))
    exact = two_layers.exact_gradients(importance_samples=row.importance_samples)
    assert_equal_gradients(found, exact)


@pytest.mark.parametrize(
    "row",
    [row for row in UNBIASED if isinstance(row.estimator, PARALLEL) and row.samples <= 2],
    ids=repr,
)
def test_parallel_layers(row):
    """Both layers depend on the input alone and share one level."""
    model = two_layers.compiled(row, parallel=True)
    found = two_layers.mean_step(model, *two_layers.noise_and_weights(model, row))
    exact = two_layers.exact_gradients(True, importance_samples=row.importance_samples)
    assert_equal_gradients(found, exact)


@pytest.mark.parametrize("parallel", [True, False])
def test_eagerly_every_layer_is_a_level(parallel):
    """There is no graph then to tell that two layers stand side by side."""
    row = next(row for row in UNBIASED if isinstance(row.estimator, MuProp))
    model = two_layers.compiled(row, parallel)
    noise_and_weights = two_layers.noise_and_weights(model, row)
    found = two_layers.mean_step(model, *noise_and_weights, eager=True)
    assert_equal_gradients(found, two_layers.exact_gradients(parallel))


@pytest.mark.parametrize("row", on_two_layers(QUADRATURE), ids=repr)
def test_through_batch_norm_and_dropout(row):
    """Quadrature over the noise of z and of z~; the layers before and between are random too."""
    model = two_layers_quadrature.normalised_layers()
    two_layers_quadrature.compiled(model, row.estimator)
    exact = two_layers_quadrature.enumerated_gradients(model)
    found = two_layers_quadrature.integrated_gradients(model, row.estimator)
    assert_equal_gradients(found, exact)


def test_parallel_layers_of_relaxed_samples():
    model = two_layers_quadrature.normalised_layers(parallel=True)
    two_layers_quadrature.compiled(model, Relax())
    exact = two_layers_quadrature.enumerated_gradients(model)
    assert_equal_gradients(two_layers_quadrature.integrated_gradients(model, Relax()), exact)


@pytest.mark.parametrize("row", on_two_layers(STATISTICS), ids=repr)
def test_every_weight_within_its_standard_error(row, seed):
    """100 independent batches: Student's t with 99 degrees of freedom exceeds 6.5 in absolute value
    with probability 3.3e-9, so one of 49 weights does once in 6 million runs.
    """
    model = two_layers.compiled(row)
    for k, layer in enumerate(model.stochastic_layers):
        layer.seed_generator.state.assign([seed, k])
    step = two_layers.step_function(model, rows=1000)
    runs = [step(None) for _ in range(100)]
    exact = two_layers.exact_gradients()
    scale = max(np.abs(g).max() for g in exact.values())
    for path, gradient in exact.items():
        found = np.stack([run[path] for run in runs])
        error = found.std(axis=0, ddof=1) / np.sqrt(len(runs))
        assert error.max() < 0.02 * scale, path  # else this would prove nothing
        assert np.all(np.abs(found.mean(axis=0) - gradient) <= 6.5 * error + 1e-9), path

"""Messages about estimators."""

import keras
import numpy as np
import tensorflow_probability as tfp

from tests.messages.rows import Row, model_of, step
from tf_relax import RelaxModel, estimators, layers


def distribution(a):
    return tfp.distributions.Normal(a, 1.0)


def dropout_under_exact():
    step(after=keras.layers.Dropout(0.5), estimator="exact")


def set_of_two_choices():
    kinds = layers.RelaxCategorical(name="kinds")
    model = RelaxModel([keras.Input((2, 3)), kinds])
    model.compile("sgd", "mse", estimator="unordered_set", run_eagerly=True)
    model.differentiate(np.zeros((4, 2, 3), "float32"), np.zeros((4, 2, 3), "float32"))


ROWS = [
    Row(
        "estimator",
        lambda: model_of(estimator="relaxx"),
        ValueError,
        (
            "Unknown estimator 'relaxx'. Known names are ['arms', 'concrete', 'disarm', "
            "'disarm_tree', 'dlax', 'double_cv'"
        ),
    ),
    Row(
        "one_sample",
        lambda: estimators.LeaveOneOut(1),
        ValueError,
        (
            "LeaveOneOut compares samples with one another: a whole number, at least 2. Received:"
            " num_samples=1"
        ),
    ),
    Row(
        "baseline",
        lambda: estimators.Reinforce(baseline="mean"),
        ValueError,
        "Reinforce: `baseline` must be None, 'moving_average' or 'learned'. Received: 'mean'",
    ),
    Row(
        "num_samples",
        lambda: estimators.Relax(num_samples=0),
        ValueError,
        "Relax: `num_samples` must be at least 1 (a whole number). Received: 0",
    ),
    Row(
        "coupling",
        lambda: estimators.Relax(num_samples=2, coupling="negative"),
        ValueError,
        "Relax: `coupling` must be 'antithetic' or 'independent'. Received: 'negative'",
    ),
    Row(
        "one_antithetic",
        lambda: estimators.Rebar(coupling="antithetic"),
        ValueError,
        (
            "Rebar: coupling='antithetic' makes samples depend on each other, and num_samples=1 "
            "makes one. Use num_samples=2 or more, with Relax and Rebar also num_conditional=2, or "
            "coupling='independent'."
        ),
    ),
    Row(
        "antithetic_seeds",
        lambda: step(
            layers.RelaxSample(distribution, name="reals"),
            estimator=estimators.Lax(num_samples=2, coupling="antithetic"),
        ),
        ValueError,
        (
            "Lax(num_samples=2, coupling='antithetic') makes samples of noise that repels other "
            "noise, and that of RelaxSample 'reals' has no known distribution to do so in. Use "
            "coupling='independent'."
        ),
    ),
    Row(
        "relax_on_reals",
        lambda: step(layers.RelaxNormal(name="reals"), estimator="relax"),
        ValueError,
        (
            "Relax() estimates gradients for discrete samples, and RelaxNormal 'reals' draws "
            "continuous ones. Use 'lax', 'reparameterization' or 'reinforce'."
        ),
    ),
    Row(
        "lax_on_bits",
        lambda: step(estimator="lax"),
        ValueError,
        (
            "Lax() differentiates the sample itself, and RelaxBernoulli 'code' draws discrete "
            "ones. Use 'relax', or 'leave_one_out'."
        ),
    ),
    Row(
        "disarm_on_categories",
        lambda: step(layers.RelaxCategorical(name="kind"), estimator="disarm"),
        ValueError,
        (
            "Disarm() is defined for independent binary units, which RelaxCategorical 'kind' does"
            " not draw. Use 'relax' or 'leave_one_out' for other discrete layers, 'lax' or "
            "'reinforce' for continuous ones."
        ),
    ),
    Row(
        "concrete_on_indices",
        lambda: step(
            layers.RelaxCategorical(output="index", name="kind"),
            estimator="concrete",
            after=lambda k: keras.layers.Embedding(2, 2)(k),
        ),
        ValueError,
        (
            "Concrete() differentiates the objective in the sample, and RelaxCategorical 'kind' "
            "returns indices. Let it return one-hot vectors, or use 'relax', whose surrogate "
            "network then stands alone."
        ),
    ),
    Row(
        "outcomes",
        lambda: step(estimator=estimators.Exact(max_outcomes=3)),
        ValueError,
        (
            "Exact would have to enumerate 4 joint outcomes (4 of 'code'), and max_outcomes=3. "
            "Use 'relax', or raise `max_outcomes`: every outcome is one evaluation of the model."
        ),
    ),
    Row(
        "dropout_under_exact",
        dropout_under_exact,
        ValueError,
        (
            "Exact() needs a deterministic objective, and RelaxModel 'model' draws random numbers "
            "outside of its stochastic layers"
        ),
    ),
    Row(
        "batch_statistics_of_counts",
        lambda: step(
            layers.RelaxPoisson(name="counts"),
            after=keras.layers.BatchNormalization(),
            estimator="measure_valued",
        ),
        ValueError,
        (
            "MeasureValued() compares samples of one example, and batch statistics of samples of "
            "RelaxPoisson 'counts' make the examples of RelaxModel 'model' depend on each other's."
            " Use 'relax' or 'leave_one_out'."
        ),
    ),
    Row(
        "several_choices_in_a_set",
        set_of_two_choices,
        ValueError,
        (
            "UnorderedSet() is for one choice per example, and RelaxCategorical 'kinds' makes "
            "several, with logits of shape (4, 2, 3). Use 'relax', 'sb_carms' or 'leave_one_out'."
        ),
    ),
    Row(
        "batch_statistics_under_exact",
        lambda: step(after=keras.layers.BatchNormalization(), estimator="exact"),
        ValueError,
        (
            "Exact() compares samples of one example, and batch statistics of samples of "
            "RelaxBernoulli 'code' make the examples of RelaxModel 'model' depend on each other's."
            " Use 'relax' or 'leave_one_out'."
        ),
    ),
]

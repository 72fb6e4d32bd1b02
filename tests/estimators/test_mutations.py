# ruff: noqa: E501 (one mutation a line)
"""The proofs can fail: flipping any sign in the estimator's equations breaks unbiasedness."""

import inspect
import types

import pytest

from tests.estimators.one_bernoulli import exact_gradient, integrated_estimate, one_bernoulli
from tf_relax.estimators import control_variate, score_function
from tf_relax.relaxations import bernoulli

LOGIT = 0.25

# (module, right, wrong, class, arguments)
MUTATIONS = {
    "c(z~) added": (control_variate, "f - c[k]", "f + c[k]", "Relax", {}),
    "score term subtracted": (
        control_variate,
        "along_event(f - c[k], score) * score",
        "-along_event(f - c[k], score) * score",
        "Relax",
        {},
    ),
    "pathwise term subtracted": (control_variate, "+ pathwise", "- pathwise", "Relax", {}),
    "pathwise term left out": (control_variate, "+ pathwise", "", "Relax", {}),
    "dc(z~)/da added": (
        control_variate,
        "h[k] - relaxation.conditional_vjp",
        "h[k] + relaxation.conditional_vjp",
        "Relax",
        {"coupled": False},
    ),
    "dc(z~)/da forgotten": (
        control_variate,
        "z_tilde[k], h_tilde[k]",
        "z_tilde[k], 0 * h_tilde[k]",
        "Relax",
        {"coupled": False},
    ),
    "scale of dc/dz forgotten": (
        control_variate,
        "h += site.layer.scale * h_objective[k]",
        "h += h_objective[k]",
        "Rebar",
        {},
    ),
    "sign of the objective in dc/dz": (
        control_variate,
        "h += site.layer.scale * h_objective[k]",
        "h -= site.layer.scale * h_objective[k]",
        "Rebar",
        {},
    ),
    "sign of the network in dc/dz": (control_variate, "h += tape", "h -= tape", "Relax", {}),
    "baseline leaks": (score_function, "f - beta, score) * score", "f, score) * (score - beta)", "Reinforce", {"baseline": "moving_average"}),
    "score negated": (bernoulli, "return s * tf.sigmoid(-s * a)  #", "return -s * tf.sigmoid(-s * a)  #", "Relax", {}),
    "score of the other value": (bernoulli, "return s * tf.sigmoid(-s * a)  #", "return s * tf.sigmoid(s * a)  #", "Relax", {}),
    "coupled derivative, sign": (bernoulli, "+ tf.sigmoid(s * a) * tf.exp", "- tf.sigmoid(s * a) * tf.exp", "Relax", {}),
    "coupled derivative, side": (bernoulli, "(tf.sigmoid(-s * a) + tf.sigmoid(s * a)", "(tf.sigmoid(s * a) + tf.sigmoid(-s * a)", "Relax", {}),
    "coupled derivative, exponent": (bernoulli, "tf.exp(-tf.abs(draw.z))", "tf.exp(-2 * tf.abs(draw.z))", "Relax", {}),
    "conditional derivative, sign": (bernoulli, "-tf.sigmoid(s * a) * tf.math.expm1", "tf.sigmoid(s * a) * tf.math.expm1", "Relax", {"coupled": False}),
    "conditional sample, side": (bernoulli, "s * tf.nn.softplus(noise", "-s * tf.nn.softplus(noise", "Relax", {"coupled": False}),
    "conditional sample, inner sign": (bernoulli, "tf.nn.softplus(s * a))", "tf.nn.softplus(-s * a))", "Relax", {"coupled": False}),
}  # fmt: skip


def mutate(module, right, wrong):
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"the equation has changed: {right!r}"
    mutant = types.ModuleType(module.__name__ + "_mutant")
    # Without registration: the mutant's classes must not replace the real ones in Keras.
    source = source.replace(
        "@keras.saving.register_keras_serializable", "@(lambda package: lambda c: c)"
    )
    exec(compile(source.replace(right, wrong), module.__name__, "exec"), mutant.__dict__)
    return mutant


pytestmark = pytest.mark.usefixtures("float64")


def bias(module, name, arguments):
    estimators = module if hasattr(module, name) else control_variate
    model = one_bernoulli(LOGIT)
    unit = model.get_layer("unit")
    if hasattr(module, "Bernoulli"):
        unit.relaxation = module.Bernoulli()
    estimator = getattr(estimators, name)(**arguments)
    model.compile("sgd", loss="mse", estimator=estimator, run_eagerly=True)
    unit.baseline.assign(0.4)
    return integrated_estimate(model, LOGIT) - exact_gradient(model, LOGIT, "analytic")


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutant_is_biased(mutation):
    module, right, wrong, name, arguments = MUTATIONS[mutation]
    assert abs(bias(module, name, arguments)) < 1e-9
    assert abs(bias(mutate(module, right, wrong), name, arguments)) > 1e-4

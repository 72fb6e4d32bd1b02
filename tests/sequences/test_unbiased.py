"""The gradient of expected rewards of sequences, against the sum over all sequences."""

import numpy as np
import pytest

from tests.estimators.one_choice import mutant
from tests.sequences import small_language as small
from tf_relax import sequences
from tf_relax._src.sequences import estimators, learner

ROUNDING, CLEAR = 1e-9, 1e-3

COSTS = {
    "at the end": {},
    "of tokens": {"reward": small.token_reward},
    "and divergence": {"reference": True, "kl_weight": 0.7, "entropy_weight": 0.4},
    "of tokens and divergence": {
        "reward": small.token_reward, "reference": True, "kl_weight": 0.7, "entropy_weight": 0.4,
    },
    "of one length": {"stop": None},
}  # fmt: skip
ESTIMATORS = {
    "reinforce": (lambda: sequences.SequenceReinforce(1), small.independent),
    "reinforce, K = 2": (lambda: sequences.SequenceReinforce(2), small.independent),
    "leave_one_out, K = 2": (lambda: sequences.SequenceLeaveOneOut(2), small.independent),
    "leave_one_out, K = 3": (lambda: sequences.SequenceLeaveOneOut(3), small.independent),
    "unordered_set, K = 2": (lambda: sequences.SequenceUnorderedSet(2), small.sets),
    "unordered_set, K = 3": (lambda: sequences.SequenceUnorderedSet(3), small.sets),
    "grpo": (lambda: sequences.GroupNormalized(2), small.independent),
}


def relative_error(rng, estimator, groups_of, costs):
    model = small.make(rng, estimator, **costs)
    listed = small.listed(model.stop_token)
    truth = small.exact(model, listed)
    p = small.probabilities(model, listed)
    assert abs(p.sum() - 1) < 1e-12
    groups, weights = groups_of(p, estimator.num_samples)
    assert abs(sum(weights) - 1) < 1e-9
    return small.error(small.expected(model, listed, groups, weights), truth)


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_expectation_is_the_derivative_of_the_reward(name, costs, rng):
    make, groups_of = ESTIMATORS[name]
    estimator = make()
    found = relative_error(rng, estimator, groups_of, COSTS[costs])
    # The integrals of the set are sums of 177 nodes.
    exact = 1e-7 if isinstance(estimator, sequences.SequenceUnorderedSet) else ROUNDING
    if estimator.unbiased:
        assert found < exact
    else:
        assert found > CLEAR


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("SequenceLeaveOneOut", "rules.leave_one_out(tf.unstack(returns, axis=1))",
         "[r - tf.reduce_mean(returns, axis=1) for r in tf.unstack(returns, axis=1)]"),
        ("SequenceReinforce", "[..., tf.newaxis] * self.advantages(group) * group.mask",
         "[..., tf.newaxis] * self.advantages(group)[..., ::-1] * group.mask"),
        ("SequenceUnorderedSet", "tf.cast(weights * exists", "tf.cast(tf.exp(log_p) * exists"),
        ("SequenceUnorderedSet", "bkj,bjt->bkt", "bjk,bjt->bkt"),
    ],
)  # fmt: skip
def test_mistakes_of_estimators_are_found(name, right, wrong, rng):
    kind = mutant(estimators, name, right, wrong)
    estimator = kind(2)
    groups_of = small.sets if estimator.without_replacement else small.independent
    assert relative_error(rng, estimator, groups_of, COSTS["of tokens"]) > CLEAR


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("+ from_here - after", "+ from_here"),  # no derivative through later costs
        ("axis=1, reverse=True)\n", "axis=1)\n"),  # answers for the past
        ("(through + own) / batch", "through / batch"),
        (") * mask, axis=-1)", "), axis=-1)"),  # probabilities of what was never drawn
    ],
)
def test_mistakes_of_the_gradient_are_found(right, wrong, rng, monkeypatch):
    source_has = learner.__loader__.get_source(learner.__name__)
    assert right in source_has
    wrong_learner = {"__name__": "mutant"}
    exec(compile(source_has.replace(right, wrong), "mutant", "exec"), wrong_learner)
    monkeypatch.setattr(
        "tf_relax._src.sequences.sequence_model.differentiate", wrong_learner["differentiate"]
    )
    estimator = sequences.SequenceUnorderedSet(2)
    found = relative_error(rng, estimator, small.sets, COSTS["of tokens and divergence"])
    assert found > CLEAR


@pytest.mark.parametrize("count", [1, 2])
def test_relax_is_unbiased(count, rng):
    """All sequences, and for each some noise of z given the tokens."""
    estimator = sequences.SequenceRelax(count)
    model = small.make(rng, estimator, **COSTS["of tokens and divergence"])
    for variable in model.critic.trainable_variables:
        if variable.shape:
            variable.assign(0.5 * rng.normal(size=variable.shape))
    listed = small.listed()
    truth = small.exact(model, listed)
    groups, weights = small.independent(small.probabilities(model, listed), count)
    repeats = {1: 400, 2: 20}[count]
    means = []
    for seed in range(12):
        model.estimator = estimator
        many = np.repeat(groups, repeats, axis=0), np.repeat(weights, repeats) / repeats
        found = small.expected(model, listed, *many, seed=seed)
        means.append(np.concatenate([g.reshape(-1) for g in found]))
    flat = np.concatenate([t.reshape(-1) for t in truth])
    deviation = np.std(means, axis=0, ddof=1) / np.sqrt(len(means))
    z = (np.mean(means, axis=0) - flat) / np.maximum(deviation, 1e-12)
    assert np.abs(z[deviation > 1e-9]).max() < 7  # of t with 11 degrees, for some 100 weights
    assert deviation.max() < 0.05 * np.abs(flat).max()


SIGNAL = "signal = tf.reshape(self.advantages(group), [-1]) - c"
RELAX_MISTAKES = {
    # What the surrogates of all tokens give, taken off the score of all tokens, is biased.
    "sees later tokens": (
        SIGNAL,
        "c = tf.repeat(tf.reduce_sum(tf.reshape(c, shape[:3]), -1), shape[2], axis=-1)\n"
        "        signal = tf.reshape(self.advantages(group), [-1]) - tf.reshape(c, [-1])",
    ),
    "adds the surrogate": (SIGNAL, SIGNAL.replace("- c", "+ c")),
    "another sign of the path": ("draw, signal, path)", "draw, signal, -path)"),
    "no path": ("draw, signal, path)", "draw, signal, 0 * path)"),
}


@pytest.mark.parametrize("mistake", RELAX_MISTAKES)
def test_mistakes_of_relax_are_found(mistake, rng):
    wrong = mutant(estimators, "SequenceRelax", *RELAX_MISTAKES[mistake])(1)
    model = small.make(rng, wrong)
    for variable in model.critic.trainable_variables:
        if variable.shape:
            variable.assign(2.0 * rng.normal(size=variable.shape))
    listed = small.listed()
    truth = small.exact(model, listed)
    groups, weights = small.independent(small.probabilities(model, listed), 1)
    many = np.repeat(groups, 2000, axis=0), np.repeat(weights, 2000) / 2000
    assert small.error(small.expected(model, listed, *many), truth) > 0.1

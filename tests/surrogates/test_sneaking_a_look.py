"""Surrogates that look at what they do not declare."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.estimators.learned import taught
from tests.surrogates.models import fit, weights
from tf_relax import RelaxModel
from tf_relax.estimators import Reinforce, Relax
from tf_relax.layers import RelaxBernoulli
from tf_relax.losses import BernoulliNLL
from tf_relax.surrogates import Surrogate


class Peeking(Surrogate):
    """Looks at whatever somebody left in `PEEKED`."""

    looks_at = ()

    def build(self, z_shape, logits_shape=None, context_shape=None, targets_shape=None):
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, z, logits=None, context=None, targets=None):
        total = self.factor * tf.reduce_sum(z, axis=1)
        for tensor in PEEKED:
            total += tf.reduce_sum(tensor, axis=1) * tf.reduce_mean(z, axis=1)
        return total


PEEKED = []


class Tells(RelaxModel):
    """Leaves a tensor of its forward pass where the surrogate finds it."""

    def __init__(self, what):
        super().__init__()
        self.what = what
        self.encoder = keras.layers.Dense(4)
        self.code = RelaxBernoulli(name="code")
        self.decoder = keras.layers.Dense(2)

    def build(self, input_shape):
        self.encoder.build(input_shape)
        self.code.build((None, 4))
        self.decoder.build((None, 4))
        self.built = True

    def call(self, x, training=None):
        logits = self.encoder(x)
        sample = self.code(logits, training=training)
        outputs = self.decoder(sample)
        seen = {"inputs": x, "logits": logits, "sample": sample, "outputs": outputs}
        PEEKED[:] = [seen[self.what]]
        return outputs


@pytest.fixture
def tells():
    yield Tells
    PEEKED.clear()


@pytest.mark.parametrize("what", ["sample", "outputs"])
@pytest.mark.parametrize(
    "estimator",
    [
        Relax(),
        Relax(coupled=False),
        Relax(num_samples=2),
        "dlax",
        "nvil",
        Reinforce(baseline="learned"),
    ],
    ids=str,
)
def test_surrogate_that_sneaks_a_look_is_refused_in_a_graph(tells, what, estimator):
    model = tells(what)
    model.build((None, 3))
    estimator = taught(estimator, Peeking())
    model.compile("sgd", BernoulliNLL(), estimator=estimator, jit_compile=False)
    before = weights(model)
    message = "surrogate Peeking of RelaxBernoulli 'code' looks at the sample.*biased.*`looks_at`"
    with pytest.raises(ValueError, match=message):
        fit(model)
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("what", ["inputs", "logits"])
def test_surrogate_may_see_what_exists_before_the_sample(tells, what):
    model = tells(what)
    model.build((None, 3))
    estimator = Relax(surrogate=Peeking())
    model.compile("sgd", BernoulliNLL(), estimator=estimator, jit_compile=False)
    assert np.isfinite(fit(model).history["loss"]).all()

"""An estimator that looks at the passes of a step, and models for it to look at."""

import keras
import numpy as np
import tensorflow as tf

from tests.training.objectives import run
from tf_relax._src.estimators.state import SurrogateState
from tf_relax.estimators import Estimate, Estimator
from tf_relax.layers import RelaxBernoulli


class Spy(Estimator):
    """An estimator that trains nothing and keeps what `look` returns.

    At the default temperature the relaxed sample at its own z is the hard one, to the last bit.
    """

    def __init__(self, look=None, temperature=1e-8):
        self.look = look or (lambda one: one.f)
        self.temperature = temperature

    def build(self, layer, relaxable):
        state = SurrogateState(
            layer, surrogate=None, uses_objective=True, temperature=self.temperature, scale=1.0
        )
        state.trainable = False
        return state

    def estimate(self, passes):
        (one,) = passes
        self.seen = self.look(one)
        return Estimate([[tf.zeros_like(site.logits) for site in one.sites]])


def look(model, x, y, mode, sample_weight=None):
    """One pass of a model compiled with a `Spy`: what it saw, and the outputs."""

    def step():
        result = model.differentiate(tf.constant(x), tf.constant(y), sample_weight)
        return model.estimator.seen, result.y_pred

    return keras.tree.map_structure(np.asarray, run(step, mode))


def replay_every_level(one):
    # Twice, as for an independent z~: no replay may move on what the next one sees.
    levels = [*one.sites.levels(), *one.sites.levels()]
    return one.f, [one.relaxed(level, [site.z for site in level]) for level in levels]


def chain(inputs):
    code = RelaxBernoulli(prior="learned")(keras.layers.Dense(4)(inputs))
    code = RelaxBernoulli(prior="uniform", kl="sampled")(keras.layers.Dense(3)(code))
    return keras.layers.Dense(2)(code)


def side_by_side(inputs):
    left = RelaxBernoulli(prior="uniform")(keras.layers.Dense(4)(inputs))
    right = RelaxBernoulli()(keras.layers.Dense(3)(inputs))
    return keras.layers.Dense(2)(keras.layers.Concatenate()([left, right]))


def shared(inputs):
    layer = RelaxBernoulli(prior="uniform")
    code = layer(keras.layers.Dense(4)(inputs))
    return keras.layers.Dense(2)(layer(keras.layers.Dense(4)(code)))


def dropout(inputs):
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(inputs))
    code = keras.layers.Dropout(0.5)(RelaxBernoulli()(keras.layers.Dense(8)(hidden)))
    code = keras.layers.GaussianNoise(1.0)(code)
    return keras.layers.Dense(2)(code)


def batch_statistics(inputs):
    code = RelaxBernoulli()(keras.layers.BatchNormalization()(keras.layers.Dense(4)(inputs)))
    return keras.layers.Dense(2)(keras.layers.BatchNormalization()(code))


ARCHITECTURES = [chain, side_by_side, shared, dropout, batch_statistics]

"""Kinds of layers, and what their tests ask of them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.relaxations.families import FAMILIES, Family
from tf_relax import layers

WITHOUT_CONDITIONAL = [
    Family("gumbel_sinkhorn", layers.GumbelSinkhorn, (3, 3), 6),
    Family("rounding", layers.Rounding, (3, 6), 6),
]
ALL = [*FAMILIES, *WITHOUT_CONDITIONAL]

families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
all_families = pytest.mark.parametrize("family", ALL, ids=lambda family: family.name)


def logits(family, rng, batch=3, dtype="float32"):
    return tf.constant(rng.normal(size=(batch, *family.event)), dtype)


def divergence(layer):
    term = np.sum([np.asarray(loss) for loss in layer.losses], axis=0)
    return term * len(term)  # what add_loss was given is divided by the batch


def log_probabilities(relaxation, outcomes, a):
    """One row of logits: the log-probability of every outcome."""
    repeated = tf.repeat(tf.convert_to_tensor(a)[tf.newaxis], len(outcomes), axis=0)
    draws = relaxation.forced(repeated, tf.constant(outcomes))
    return np.asarray(relaxation.log_prob(repeated, draws)).reshape(len(outcomes), -1).sum(axis=1)

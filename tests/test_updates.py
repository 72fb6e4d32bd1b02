"""A step of an optimizer is Keras's own, and leaves nothing behind once its model is gone."""

import functools
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.rl.small_mdp import Small
from tf_relax._src import updates


class Witness(keras.layers.Layer):
    """Hands on weak references to the graphs that it is called in."""

    def __init__(self, graphs, **kwargs):
        super().__init__(**kwargs)
        self.seen = graphs.append  # of a list Keras would keep a copy

    def call(self, inputs):
        if not tf.executing_eagerly():
            self.seen(weakref.ref(tf.compat.v1.get_default_graph()))
        return tf.identity(inputs)


def watched(graphs, **options):
    """A model that trains once, is measured, and is gone when this returns."""
    inputs = keras.Input((3,))
    logits = Witness(graphs)(keras.layers.Dense(2)(inputs))
    code = tf_relax.layers.RelaxBernoulli(prior="learned")(logits)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(code))
    estimator = tf_relax.estimators.Relax(surrogate="objective")
    model.compile("adam", loss="mse", **{"estimator": estimator, **options})
    return model


def fitted(graphs):
    watched(graphs).fit(np.eye(3), np.eye(3), verbose=0)


def fitted_in_float16(graphs):
    """Scales the loss: another optimizer around the pair."""
    keras.config.set_dtype_policy("mixed_float16")
    watched(graphs).fit(np.eye(3), np.eye(3), verbose=0)


def observed(graphs):
    callback = tf_relax.callbacks.GradientVariance(np.eye(3), np.eye(3))
    watched(graphs).fit(np.eye(3), np.eye(3), callbacks=[callback], verbose=0)


def watched_in_training(graphs):
    callback = tf_relax.callbacks.Watch(np.eye(3), np.eye(3))
    watched(graphs).fit(np.eye(3), np.eye(3), callbacks=[callback], verbose=0)


def audited(graphs):
    model = watched(graphs)
    tf_relax.audit(
        model, np.eye(3), np.eye(3), ["relax"], num_samples=8, surrogate_steps=1, verbose=0
    )


def fitted_by_reinmax(graphs):
    watched(graphs, estimator="reinmax").fit(np.eye(3), np.eye(3), verbose=0)


def with_a_loss_that_knows_the_model(graphs):
    model = watched(graphs)

    def loss(y, y_pred):
        return tf.reduce_sum((y - y_pred) ** 2, axis=-1) + 0.1 * tf.norm(model.layers[-1].kernel)

    model.compile("adam", loss=loss, estimator=model.estimator)
    model.fit(np.eye(3), np.eye(3), verbose=0)


def policy(graphs, estimator="a2c", **options):
    network = keras.Sequential([keras.Input((2,)), Witness(graphs), keras.layers.Dense(2)])
    trainer = tf_relax.rl.PolicyGradient(network, Small("choice"), estimator, **options)
    trainer.compile(keras.optimizers.Adam(), jit_compile=False)
    trainer.fit(10, seed=0, verbose=0)


def policy_with_a_surrogate(graphs):
    policy(graphs, "relax")


def clipped_policy(graphs):
    policy(graphs, trust_region=tf_relax.rl.Clip(epochs=1, minibatches=1))


def penalised_policy(graphs):
    policy(graphs, trust_region=tf_relax.rl.KLPenalty(steps=2))


@pytest.mark.parametrize(
    "train",
    [
        fitted,
        fitted_in_float16,
        observed,
        watched_in_training,
        audited,
        fitted_by_reinmax,
        with_a_loss_that_knows_the_model,
        policy,
        policy_with_a_surrogate,
        clipped_policy,
        penalised_policy,
    ],
    ids=lambda train: train.__name__,
)
def test_no_graph_outlives_its_model(train):
    graphs = []
    train(graphs)
    assert graphs
    gc.collect()
    assert [graph().name for graph in graphs if graph() is not None] == []


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_a_step_is_that_of_keras(compiled):
    start, gradients = [2.0, -1.0], [tf.constant([0.5]), tf.constant([-3.0])]
    found = []
    for step in (updates.apply, lambda optimizer, g, variables: optimizer.apply(g, variables)):
        variables = [keras.Variable([value]) for value in start]
        optimizer = keras.optimizers.Adam(0.1, clipnorm=1.0, weight_decay=0.01)
        optimizer.build(variables)

        run = functools.partial(step, optimizer, gradients, variables)
        run = tf.function(run, autograph=False) if compiled else run
        for _ in range(3):
            run()
        assert int(optimizer.iterations) == 3
        found.append([float(variable[0]) for variable in variables])
    assert found[0] == found[1] != start


def test_replicas_are_added_up_as_keras_does():
    """Under a strategy the step is left to Keras, which sees its replica context."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    contexts = []

    class Optimizer(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            contexts.append(tf.distribute.get_replica_context())
            return super().apply(grads, trainable_variables)

    with strategy.scope():
        weight = keras.Variable([1.0])
        optimizer = Optimizer(0.5)
        optimizer.build([weight])
    strategy.run(lambda: updates.apply(optimizer, [tf.constant([1.0])], [weight]))
    assert float(weight[0]) == 0.5
    assert contexts[0] is not None


def test_no_class_outlives_its_models():
    """Of a class that is built functionally there is a variant, which must not keep it."""

    class Own(tf_relax.RelaxModel):
        """A class of a user's own."""

    inputs = keras.Input((3,))
    assert isinstance(Own(inputs, tf_relax.layers.RelaxBernoulli()(inputs)), Own)
    assert isinstance(Own([inputs, tf_relax.layers.RelaxBernoulli()]), keras.Sequential)
    own = weakref.ref(Own)
    del Own
    gc.collect()
    assert own() is None

"""Messages about surrogates."""

import keras
import tensorflow as tf

from tests.messages.rows import Row, X, Y, black_box_model, step
from tests.models import bernoulli, relax
from tf_relax import RelaxModel, estimators, surrogates


def side_by_side(after):
    """One step of a model with two layers on one level, each of which ends in one summand."""
    inputs = keras.Input((3,))
    pair = [bernoulli(name="first"), bernoulli(name="second")]
    outputs = [layer(keras.layers.Dense(4)(inputs)) for layer in pair]
    outputs[0] = after(outputs[0])
    outputs = [keras.layers.Dense(2)(keras.layers.Flatten()(output)) for output in outputs]
    model = RelaxModel(inputs, keras.layers.Add()(outputs), name="model")
    each = {"first": relax(), "second": relax(surrogate="network")}
    model.compile("sgd", "mse", estimator=each)
    run = tf.function(lambda: model.differentiate(X, Y).loss, autograph=False)
    run()


def image(code):
    return keras.layers.Resizing(3, 3)(keras.layers.Reshape((2, 2, 1))(code)) ** 2


def of_unknown_size():
    inputs = keras.Input((None, 2))
    model = RelaxModel(inputs, bernoulli()(inputs), name="model")
    model.compile("sgd", "mse", estimator=relax(surrogate="network"))


def targets_of_two_outputs():
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2)(inputs))
    model = RelaxModel(inputs, [keras.layers.Dense(2)(code) for _ in range(2)], name="model")
    surrogate = surrogates.Network(looks_at=["targets"], targets_shape=(2,))
    estimator = relax(surrogate=surrogate)
    model.compile("sgd", ["mse", "mse"], estimator=estimator, run_eagerly=True)
    model.differentiate(X, [Y, Y])


def z_critic(units=1):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)], name="critic")


ROWS = [
    Row(
        "surrogate",
        lambda: estimators.Relax(surrogate="net"),
        ValueError,
        (
            "Unknown surrogate 'net'. Known names are ['network', 'objective', 'sum']; or pass a "
            "tf_relax.surrogates.Surrogate or a Keras model of z."
        ),
    ),
    Row(
        "summand",
        lambda: surrogates.Sum(["objective"]),
        ValueError,
        (
            "Sum adds objects such as tf_relax.surrogates.Objective() and Network(), and "
            "KerasModel(model). Received: 'objective'"
        ),
    ),
    Row(
        "surrogate_in_the_place_of_another_argument",
        lambda: estimators.Relax("network"),
        ValueError,
        (
            "Relax: `coupled` must be True or False. Received: 'network'. Other arguments go by "
            "name, such as surrogate=..."
        ),
    ),
    Row(
        "surrogate_sources",
        lambda: surrogates.Network(looks_at=["labels"], name="critic"),
        ValueError,
        (
            "Network 'critic' cannot look at ['labels']. Besides z it may look at ('logits', "
            "'context', 'targets'), which exist before the sample does: a surrogate that sees the"
            " sample, or anything that the sample causes (outputs, losses, later samples), makes "
            "the gradient biased."
        ),
    ),
    Row(
        "surrogate_inputs",
        lambda: surrogates.KerasModel(z_critic(), ["logits"]),
        ValueError,
        "The surrogate 'critic' has 1 inputs, and is given 2 tensors: z and ['logits'].",
    ),
    Row(
        "surrogate_output",
        lambda: step(estimator=relax(surrogate=z_critic(3))),
        ValueError,
        (
            "The surrogate 'critic' has to return one value per example, [batch] or [batch, 1]. "
            "It returned shape (4, 3)."
        ),
    ),
    Row(
        "surrogate_size",
        of_unknown_size,
        ValueError,
        (
            "A surrogate network needs logits and a context of fixed size. Received shape (None, "
            "None, 2): fix the size, or use Relax(surrogate='objective')."
        ),
    ),
    Row(
        "surrogate_targets",
        targets_of_two_outputs,
        ValueError,
        (
            "The surrogate of RelaxBernoulli 'code' looks at the targets, and this step has none "
            "that are a single tensor. Pass `y` to `fit`, or leave 'targets' out of `looks_at`."
        ),
    ),
    Row(
        "surrogate_black_box",
        lambda: black_box_model(surrogate="objective"),
        ValueError,
        (
            "Relax(surrogate='objective') has a surrogate, Objective, which evaluates the "
            "objective at relaxed samples. For RelaxBernoulli 'code' there is none: the objective "
            "is a BlackBox, or the samples are indices. Use Relax(surrogate='network')."
        ),
    ),
    Row(
        "no_derivative",
        lambda: step(after=keras.layers.Lambda(tf.round)),
        ValueError,
        (
            "The objective has no derivative with respect to the sample of RelaxBernoulli 'code', "
            "so it cannot serve as its surrogate: the sample is not used, or passes an operation "
            "without a derivative (rounding, casting to integers, argmax). Use "
            "Relax(surrogate='network'), or estimator='reinforce'."
        ),
    ),
    Row(
        "no_derivative_mixed",
        lambda: side_by_side(keras.layers.Lambda(tf.round)),
        ValueError,
        (
            "The objective has no derivative with respect to the sample of RelaxBernoulli "
            "'first', so it cannot serve as its surrogate: the sample is not used, or passes an "
            "operation without a derivative (rounding, casting to integers, argmax). Use "
            "Relax(surrogate='network'), or estimator='reinforce'."
        ),
    ),
    Row(
        "no_second_derivative_mixed",
        lambda: side_by_side(image),
        ValueError,
        (
            "The objective passes through an operation without a second derivative "
            "(ResizeBilinearGrad) after RelaxBernoulli 'first': its temperature would learn from "
            "a wrong gradient. Resize with interpolation='nearest', or use "
            "Relax(learn_temperature=False)."
        ),
    ),
]

"""Writes what this version saves, and what a later one has to read out of it, beside this script.

    python tests/golden/make.py

Run it once per version whose files differ from those before, on the oldest claimed versions of
Keras and TensorFlow: newer ones read what older ones wrote. Files of earlier versions stay.
"""

import pathlib

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tf_relax import layers, rl, surrogates
from tf_relax.estimators import LeaveOneOut, Relax

FOLDER = pathlib.Path(__file__).parent


def model():
    """Layers and estimators of several kinds, as many as make a small file."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="inputs")
    hidden = keras.layers.Dense(6, "tanh", name="hidden")(inputs)
    bits = layers.RelaxBernoulli(prior="learned", kl_weight=0.5, seed=1, name="bits")(
        keras.layers.Dense(3, name="bit_logits")(hidden), context=inputs
    )
    choice = layers.RelaxCategorical(
        method="stick_breaking", prior=[0.5, 0.0], inference="mode", seed=2, name="choice"
    )(keras.layers.Dense(2, name="choice_logits")(bits))
    subset = layers.RelaxTopK(2, mask=[True, True, False, True], seed=3, name="subset")(
        keras.layers.Dense(4, name="subset_logits")(hidden)
    )
    prior = keras.layers.Dense(4, name="prior")(choice)
    held = layers.ConditionalPrior(name="held")(
        subset, keras.layers.Dense(4, name="again")(hidden), prior
    )
    joined = keras.layers.Concatenate(name="joined")([bits, choice, held])
    made = tf_relax.RelaxModel({"inputs": inputs}, keras.layers.Dense(1, name="decoder")(joined))
    network = surrogates.Network(units=(5,), looks_at=("logits", "context"))
    both = surrogates.Sum([surrogates.Objective(), network])
    made.compile(
        keras.optimizers.Adam(0.01),
        "mse",
        estimator={
            "bits": Relax(surrogate=both),
            "choice": Relax(surrogate=surrogates.Network(units=(4,)), temperature=0.7),
            "subset": LeaveOneOut(3),
        },
        jit_compile=False,
    )
    return made


def trainer():
    """A trainer with a surrogate, statistics of observations, and optimizers that have moved."""
    keras.utils.set_random_seed(0)
    made = rl.PolicyGradient(
        rl.dense_policy("CartPole-v1", units=(5,)),
        "CartPole-v1",
        estimator="relax",
        value=rl.dense_value((4,), units=(5,)),
        surrogate=surrogates.Network(units=(5,), looks_at=("context",)),
        trust_region=rl.KLPenalty(steps=2),
        normalize_observations=True,
    )
    made.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    return made


def data():
    """Inputs and targets of the model, and observations of the policy."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")


def numbers(made):
    """All that training changes, by kind and place."""
    kinds = {"weight": made.weights, "optimizer": made.optimizer.variables}
    if isinstance(made, rl.PolicyGradient):
        kinds["seed"] = [made.noise_seeds.state]
        kinds["value"] = made.value_optimizer.variables
        kinds["surrogate"] = made.surrogate_optimizer.variables
    else:
        kinds["seed"] = [layer.seed_generator.state for layer in made.stochastic_layers]
        for layer, state in made.estimator_state.by_layer.items():
            kinds[f"state_{layer.name}"] = state.weights
    return {
        f"{kind}_{k:02d}": np.asarray(variable)
        for kind, variables in kinds.items()
        for k, variable in enumerate(variables)
    }


def evaluated(made):
    """What a saved model or trainer answers."""
    x, y = data()
    if isinstance(made, rl.PolicyGradient):
        logits = np.asarray(made(x))
        return {"logits": logits, "evaluation": np.array(made.evaluate(3, seed=0))}
    with tf_relax.record(noise=noise(made)) as sites:
        outputs = made({"inputs": x}, training=True)
    found = {site.name: site.b.numpy() for site in sites}
    return {
        **found,
        "outputs": np.asarray(outputs),
        "loss": made.evaluate({"inputs": x}, y, verbose=0),
    }


def noise(made):
    """One fixed tensor per call of a stochastic layer."""
    rng = np.random.default_rng(1)
    shapes = {"bits": (8, 3), "choice": (8, 2), "subset": (8, 4)}
    names = [layer.name for layer in made.stochastic_layers]
    return [tf.constant(rng.logistic(size=shapes[name]), "float32") for name in names]


if __name__ == "__main__":
    folder = FOLDER / tf_relax.__version__
    folder.mkdir(exist_ok=True)
    x, y = data()
    saved = model()
    saved.fit({"inputs": x}, y, batch_size=4, epochs=2, verbose=0)
    learnt = trainer()
    learnt.fit(total_timesteps=60, seed=0, verbose=0)
    for name, made in {"model": saved, "trainer": learnt}.items():
        made.save(folder / f"{name}.keras")
        np.savez_compressed(folder / f"{name}.npz", **numbers(made), **evaluated(made))
    print(*sorted(folder.iterdir()), sep="\n")

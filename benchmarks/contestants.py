"""The estimators that the benchmarks compare, and the model that they compare them on."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tf_relax.estimators import (
    Arms,
    Concrete,
    Disarm,
    Dlax,
    DoubleCV,
    Estimator,
    GumbelStraightThrough,
    LeaveOneOut,
    MuProp,
    Nvil,
    Rebar,
    Reinforce,
    ReinMax,
    Relax,
    Rodeo,
    SbCarms,
    StraightThrough,
    Vimco,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import binary_vae
import datasets

BATCH = 100

# `exact` cannot enumerate 2^200 codes; `lax` and `reparameterization` are for continuous ones.
ESTIMATORS: dict[str, Estimator] = {
    "reinforce": Reinforce(),
    "reinforce, moving average": Reinforce(baseline="moving_average"),
    "reinforce, learned baseline": Reinforce(baseline="learned"),
    "nvil": Nvil(),
    "leave_one_out, K = 2": LeaveOneOut(2),
    "leave_one_out, K = 3": LeaveOneOut(3),
    "muprop": MuProp(),
    "dlax": Dlax(),
    "rebar": Rebar(),
    "relax": Relax(),
    "relax, independent": Relax(coupled=False),
    "relax, K = 2": Relax(num_samples=2),
    "relax, M = 2": Relax(num_conditional=2),
    "relax, antithetic, K = 2": Relax(num_samples=2, coupling="antithetic"),
    "rebar, M = 2": Rebar(num_conditional=2),
    "rebar, M = 3": Rebar(num_conditional=3),
    "rebar, antithetic, M = 2": Rebar(num_conditional=2, coupling="antithetic"),
    "rebar, antithetic, M = 3": Rebar(num_conditional=3, coupling="antithetic"),
    "rebar, antithetic, M = 3, fixed temperature": Rebar(
        num_conditional=3, coupling="antithetic", learn_temperature=False
    ),
    "rebar, antithetic, M = 2, fixed temperature": Rebar(
        num_conditional=2, coupling="antithetic", learn_temperature=False
    ),
    "rebar, antithetic, K = M = 2, fixed temperature": Rebar(
        num_samples=2, num_conditional=2, coupling="antithetic", learn_temperature=False
    ),
    "rebar, antithetic, M = 4": Rebar(num_conditional=4, coupling="antithetic"),
    "rebar, antithetic, K = M = 2": Rebar(num_samples=2, num_conditional=2, coupling="antithetic"),
    "rebar, K = 2": Rebar(num_samples=2),
    "rebar, antithetic, K = 2": Rebar(num_samples=2, coupling="antithetic"),
    "rebar, antithetic, K = 2, t = .3": Rebar(
        num_samples=2, coupling="antithetic", temperature=0.3
    ),
    "rebar, antithetic, K = 2, t = .5": Rebar(
        num_samples=2, coupling="antithetic", temperature=0.5
    ),
    "relax, objective, antithetic, K = 2": Relax(
        surrogate="objective", num_samples=2, coupling="antithetic"
    ),
    "rebar, fixed temperature": Rebar(learn_temperature=False),
    "relax, fixed temperature": Relax(learn_temperature=False),
    "relax, objective, antithetic, K = 2, fixed temperature": Relax(
        surrogate="objective", num_samples=2, coupling="antithetic", learn_temperature=False
    ),
    **{
        f"rebar, antithetic, K = 2, t = {t} fixed": Rebar(
            num_samples=2, coupling="antithetic", temperature=t, learn_temperature=False
        )
        for t in (0.15, 0.2, 0.3)
    },
    "rebar, antithetic, K = 3": Rebar(num_samples=3, coupling="antithetic"),
    "disarm": Disarm(),
    "arms, K = 3": Arms(3),
    "arms, K = 4": Arms(4),
    "double_cv, K = 2": DoubleCV(2),
    "double_cv, K = 3": DoubleCV(3),
    "rodeo, K = 2": Rodeo(2),
    "rodeo, K = 3": Rodeo(3),
    "vimco, K = 3": Vimco(),
    "concrete": Concrete(),
    "straight_through": StraightThrough(),
    "gumbel_straight_through": GumbelStraightThrough(),
    "reinmax": ReinMax(),
}

# On 20 choices among ten categories: four evaluations of the objective each, or one if biased.
CATEGORICAL: dict[str, Estimator] = {
    "relax": Relax(),
    "relax, K = 2": Relax(num_samples=2),
    "relax, antithetic, K = 2": ESTIMATORS["relax, antithetic, K = 2"],
    "relax, objective, antithetic, K = 2": ESTIMATORS["relax, objective, antithetic, K = 2"],
    "leave_one_out, K = 4": LeaveOneOut(4),
    "sb_carms, K = 4": SbCarms(4),
    "gumbel_straight_through": GumbelStraightThrough(),
    "reinmax": ReinMax(),
}
STICKS = {name: one for name, one in CATEGORICAL.items() if not isinstance(one, SbCarms | ReinMax)}
CONTESTANTS = {"nonlinear": ESTIMATORS, "categories": CATEGORICAL, "sticks": STICKS}


def evaluations(estimator: Estimator) -> int:
    """Evaluations of the objective in a step on a model with one stochastic layer."""
    if isinstance(estimator, Vimco):
        return 3
    if isinstance(estimator, Relax | Rebar):
        relaxed = estimator.num_conditional + (not estimator.coupled)
        return estimator.num_samples * (1 + relaxed)
    if isinstance(estimator, Disarm | Arms):
        return estimator.num_noises
    if isinstance(estimator, SbCarms):
        return estimator.num_samples
    return estimator.num_passes + isinstance(estimator, MuProp | Dlax)


def load_images(dataset: str, path: str | None) -> np.ndarray:
    """Returns the training images in [0, 1], to be binarised anew in every step."""
    return datasets.load(dataset, path, binarize=None)[0]


def batches(images: np.ndarray, seed: int) -> tf.data.Dataset:
    """Returns endless shuffled batches, binarised dynamically."""
    noise = tf.random.Generator.from_seed(seed)

    def binarize(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.cast(noise.uniform(tf.shape(x)) < x, tf.float32)
        return x, x

    data = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images), seed=seed).repeat()
    return data.batch(BATCH, drop_remainder=True).map(binarize).prefetch(20)


def model_for(
    estimator: Estimator, mean_image: np.ndarray, seed: int, kind: str = "nonlinear"
) -> tf_relax.RelaxModel:
    """Returns the compiled autoencoder: two tanh layers on either side of 200 bits or categories.

    Args:
        estimator: that it is compiled with.
        mean_image: that the decoder starts at.
        seed: of weights and noise.
        kind: `"nonlinear"` has 200 Bernoulli latents, `"categories"` 20 choices among ten, and
            `"sticks"` the same choices, of the same probabilities, by stick-breaking.
    """
    keras.utils.set_random_seed(seed)
    if kind in ("categories", "sticks"):
        made = categories(mean_image, sticks=kind == "sticks")
    else:
        made = binary_vae.build(kind, mean_image)
    compile_for(made, estimator)
    return made


class ToSticks(keras.layers.Layer):
    """Logits of the sticks of categories: ``a_k - logsumexp_{j > k} a_j``."""

    def call(self, logits: tf.Tensor) -> tf.Tensor:
        rest = tf.math.cumulative_logsumexp(logits, axis=-1, exclusive=True, reverse=True)
        return (logits - rest)[..., :-1]


def categories(mean_image: np.ndarray, sticks: bool = False) -> tf_relax.RelaxModel:
    """Returns the autoencoder with 20 choices among ten categories."""
    inputs = keras.Input((len(mean_image),))
    x = keras.layers.Rescaling(1.0, offset=-mean_image)(inputs)
    for k in (1, 2):
        x = keras.layers.Dense(200, "tanh", name=f"encoder_{k}")(x)
    logits = keras.layers.Reshape((20, 10))(keras.layers.Dense(200, name="logits")(x))
    if sticks:
        code = tf_relax.layers.RelaxCategorical("stick_breaking", prior="learned", name="code")
        x = code(ToSticks()(logits))
    else:
        x = tf_relax.layers.RelaxCategorical(prior="learned", name="code")(logits)
    x = keras.layers.Flatten()(x)
    for _ in range(2):
        x = keras.layers.Dense(200, "tanh")(x)
    outputs = keras.layers.Dense(len(mean_image), name="pixels")(x)
    model = tf_relax.RelaxModel(inputs, outputs)
    mean = np.clip(mean_image, 1e-3, 1 - 1e-3)
    model.get_layer("pixels").bias.assign(np.log(mean) - np.log1p(-mean))
    return model


def compile_for(model: tf_relax.RelaxModel, estimator: Estimator) -> None:
    """Compiles a model for an estimator, with a learning rate that they all share."""
    binary_vae.compile_model(
        model,
        estimator,
        importance_samples=3 if isinstance(estimator, Vimco) else None,
    )

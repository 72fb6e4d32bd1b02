"""A variational autoencoder with 200 Bernoulli latents per layer, trained on binary images.

The objective is minus the evidence lower bound, in nats per image,

    f(b) = -log p(x | b) + KL(q(b | x) || p(b)),    b ~ q(b | x) = Bernoulli(logits = encoder(x)),

whose gradient in the encoder needs an estimator, since b is discrete. The architectures are
those of Tucker et al. (2017) and Grathwohl et al. (2018): `linear1`, one dense map each way;
`linear2`, two stochastic layers; `nonlinear`, two tanh layers of 200 units on either side.

    python examples/binary_vae.py --dataset digits
    python examples/binary_vae.py --dataset mnist --model linear1 --steps 60000

    python examples/binary_vae.py --reproduce 'mnist/linear1/*' --budget 0.01

The last lines print the bounds. Pictures, the model (`.keras`) and an exported SavedModel, which
serves reconstructions, lie in the output folder. `--reproduce` trains cells of table 1 of
Grathwohl et al. (2018) instead, and goes on where it was stopped (`table_1.py`).
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import common
import datasets
import long_runs
import table_1
import tf_relax

LATENTS = 200
MODELS = ("linear1", "linear2", "nonlinear")
# Those of other units are left out, and 2^200 codes are too many to enumerate.
OTHERS = {"disarm_tree", "lax", "measure_valued", "rejection", "reparameterization"}
OTHERS |= {"exact", "sb_carms", "unordered_set"}
ESTIMATORS = sorted({*tf_relax.estimators.names()} - OTHERS)
RELAXED = {  # learn the temperature of a relaxed objective
    "dlax": tf_relax.estimators.Dlax,
    "rebar": tf_relax.estimators.Rebar,
    "relax": tf_relax.estimators.Relax,
}


def build(model: str, mean_image: np.ndarray) -> tf_relax.RelaxModel:
    """Builds the autoencoder; it maps images in [0, 1] to the logits of their reconstruction."""
    pixels = len(mean_image)
    inputs = keras.Input((pixels,), name="image")
    centred = keras.layers.Rescaling(1.0, offset=-mean_image, name="centre")(inputs)

    def bernoulli(name: str, prior: str | None) -> tf_relax.layers.RelaxBernoulli:
        return tf_relax.layers.RelaxBernoulli(prior=prior, name=name)

    def tanh_layers(tensor, name):
        if model == "nonlinear":
            for k in (1, 2):
                tensor = keras.layers.Dense(LATENTS, activation="tanh", name=f"{name}_{k}")(tensor)
        return tensor

    logits = keras.layers.Dense(LATENTS, name="logits")(tanh_layers(centred, "encoder"))
    # The surrogate looks at the image too: it may use whatever exists before the sample does.
    deepest = None if model == "linear2" else "learned"
    code = bernoulli("code", deepest)(logits, context=centred)
    if model == "linear2":
        deeper_logits = keras.layers.Dense(LATENTS, name="deeper_logits")(signed("sign")(code))
        deeper = bernoulli("deeper_code", "learned")(deeper_logits, context=centred)
        prior = keras.layers.Dense(LATENTS, name="prior")(signed("deeper_sign")(deeper))
        code = tf_relax.layers.ConditionalPrior(name="divergence")(code, logits, prior)
    hidden = tanh_layers(signed("decoder_input")(code), "decoder")
    outputs = keras.layers.Dense(pixels, name="pixels")(hidden)
    autoencoder = tf_relax.RelaxModel(inputs, outputs, name=f"{model}_vae")
    # The decoder starts at the mean image, not at grey noise.
    mean = np.clip(mean_image, 1e-3, 1 - 1e-3)
    autoencoder.get_layer("pixels").bias.assign(np.log(mean) - np.log1p(-mean))
    return autoencoder


def build_estimator(name: str, temperature: float) -> tf_relax.estimators.Estimator:
    """Returns an estimator, the objective in whose surrogate starts from a temperature."""
    if name in RELAXED:
        return RELAXED[name](temperature=temperature)
    return tf_relax.estimators.get(name)


def signed(name: str) -> keras.layers.Layer:
    """Maps {0, 1} to {-1, 1}."""
    return keras.layers.Rescaling(2.0, offset=-1.0, name=name)


def compile_model(
    model: tf_relax.RelaxModel,
    estimator: str | tf_relax.estimators.Estimator,
    learning_rate: float = 1e-3,
    beta_2: float = 0.99999,
    ema: float = 0.0,
    jit_compile: bool = True,
    importance_samples: int | None = None,
) -> None:
    """Compiles with Adam for the model and Adam for the surrogates.

    The gradient of a surrogate is a noisy square: Adam needs a long memory for its scale. With
    `ema`, the model ends with the moving average of its weights, which takes out the noise that a
    constant learning rate leaves.
    """
    average = {"use_ema": True, "ema_momentum": ema} if ema else {}
    model.compile(
        optimizer=tf_relax.RelaxOptimizer(
            keras.optimizers.Adam(learning_rate, beta_2=beta_2, **average),
            surrogate_optimizer=keras.optimizers.Adam(learning_rate, beta_2=beta_2),
        ),
        loss=tf_relax.losses.BernoulliNLL(),
        estimator=estimator,
        importance_samples=importance_samples,
        jit_compile=jit_compile,
        steps_per_execution=10,
    )


def fit(
    model: tf_relax.RelaxModel,
    train: np.ndarray,
    validation: np.ndarray,
    steps: int,
    batch_size: int,
    seed: int,
) -> keras.callbacks.History:
    """Trains for a number of steps, shown as ten epochs with a validation bound after each."""
    images = tf.data.Dataset.from_tensor_slices((train, train))
    images = images.shuffle(len(train), seed=seed).repeat().batch(batch_size).prefetch(10)
    epochs = min(10, steps)
    return model.fit(
        images,
        epochs=epochs,
        steps_per_epoch=steps // epochs,
        shuffle=False,  # the dataset shuffles
        validation_data=(validation, validation),
        validation_batch_size=500,
    )


def train_cell(
    dataset: str,
    model: str,
    estimator: tf_relax.estimators.Estimator,
    steps: int,
    checkpoints: int,
    folder: Path,
    arguments: argparse.Namespace,
) -> list[long_runs.Checkpoint]:
    """Trains a cell of table 1: batches of 24 images of one binarisation."""
    keras.utils.set_random_seed(arguments.seed)
    train, _, _ = datasets.load(dataset, arguments.data, binarize="fixed")
    made = build(model, train.mean(axis=0))
    compile_model(
        made,
        estimator,
        arguments.learning_rate,
        arguments.beta_2,
        jit_compile=not arguments.no_jit,
    )
    images = tf.data.Dataset.from_tensor_slices((train, train))
    images = images.shuffle(len(train), seed=arguments.seed).repeat()
    batches = images.batch(arguments.batch_size).prefetch(10)
    settings = {k: vars(arguments)[k] for k in ("batch_size", "learning_rate", "beta_2", "seed")}
    return long_runs.train(made, batches, train, steps, checkpoints, folder, settings)


def sample_images(model: tf_relax.RelaxModel, count: int, seed: int = 0) -> np.ndarray:
    """Draws latents from the prior and returns the means of the images that they decode to."""
    rng = np.random.default_rng(seed)

    def draw(logits: np.ndarray) -> np.ndarray:
        return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype("float32")

    hierarchical = model.name == "linear2_vae"
    deepest = model.get_layer("deeper_code" if hierarchical else "code")
    code = draw(np.tile(np.asarray(deepest.prior_logits), (count, 1)))
    if hierarchical:
        code = draw(np.asarray(model.get_layer("prior")(2 * code - 1)))
    hidden = 2 * code - 1
    names = [layer.name for layer in model.layers]
    for name in ("decoder_1", "decoder_2", "pixels"):
        if name in names:
            hidden = model.get_layer(name)(hidden)
    return 1 / (1 + np.exp(-np.asarray(hidden)))


def draw_pictures(model: tf_relax.RelaxModel, images: np.ndarray, path: Path) -> None:
    """Draws images, their reconstructions and samples of the model, one row each."""
    side = round(images.shape[1] ** 0.5)
    columns = 12
    images = images[:columns]
    reconstructions = 1 / (1 + np.exp(-model.predict(images, verbose=0)))
    rows = {
        "image": images,
        "reconstruction": reconstructions,
        "sample": sample_images(model, columns),
    }
    figure, axes = common.figure(len(rows), columns, width=0.8, height=0.95)
    for row, (label, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(picture.reshape(side, side), cmap="gray", vmin=0, vmax=1)
        for axis in row:
            axis.set_axis_off()
        row[0].set_title(label, loc="left", fontsize=9)
    common.save(figure, path)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the example; returns the bounds that it prints."""
    parser = common.parser(__doc__)
    parser.add_argument("--dataset", choices=datasets.NAMES, default="digits")
    parser.add_argument("--data", help="local copy of the data: an .npz file or its folder")
    parser.add_argument("--model", choices=MODELS, default="linear1")
    parser.add_argument("--estimator", choices=ESTIMATORS, default="relax")
    parser.add_argument("--importance-samples", type=int, help="of the objective, for vimco")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--beta-2", type=float, default=0.99999, help="Adam's, for both optimizers")
    parser.add_argument("--ema", type=float, default=0.0, help="momentum of averaged weights")
    parser.add_argument("--temperature", type=float, default=0.1, help="initial temperature")
    parser.add_argument("--samples", type=int, default=100, help="of the importance-weighted bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="default: saved_models, or outputs for table 1")
    parser.add_argument("--reproduce", nargs="*", metavar="CELL", help="of table 1; all if none")
    parser.add_argument("--budget", type=float, default=1.0, help="part of the paper's steps")
    arguments = parser.parse_args(argv)
    if arguments.reproduce is not None:
        return table_1.reproduce(
            arguments.reproduce,
            arguments.budget,
            (arguments.output or Path("outputs")) / "table_1",
            functools.partial(train_cell, arguments=arguments),
        )

    keras.utils.set_random_seed(arguments.seed)
    train, validation, _ = datasets.load(arguments.dataset, arguments.data, binarize="fixed")
    model = build(arguments.model, train.mean(axis=0))
    compile_model(
        model,
        build_estimator(arguments.estimator, arguments.temperature),
        arguments.learning_rate,
        arguments.beta_2,
        arguments.ema,
        jit_compile=not arguments.no_jit,
        importance_samples=arguments.importance_samples,
    )
    start = time.perf_counter()
    history = fit(model, train, validation, arguments.steps, arguments.batch_size, arguments.seed)
    seconds = time.perf_counter() - start
    weights = [*model.weights, *model.estimator_state.variables]
    if not all(np.all(np.isfinite(weight.numpy())) for weight in weights):
        raise FloatingPointError("Training ended with weights that are not finite.")

    evaluate = {"batch_size": 500, "verbose": 0}
    results = {
        "training ELBO": -model.evaluate(train, train, **evaluate),
        "validation ELBO": -model.evaluate(validation, validation, **evaluate),
        f"validation bound, {arguments.samples} samples": (
            tf_relax.metrics.importance_weighted_bound(
                model, validation, num_samples=arguments.samples, batch_size=500
            )
        ),
    }

    name = f"{arguments.dataset}_{arguments.model}_{arguments.estimator}"
    output = arguments.output or Path("saved_models")
    output.mkdir(parents=True, exist_ok=True)
    draw_pictures(model, validation, output / f"{name}.png")
    model.save(output / f"{name}.keras")
    model.export(output / name, verbose=False)

    print(f"\n{arguments.steps} steps in {seconds:.0f} s, {len(history.epoch)} epochs shown")
    for label, value in results.items():
        print(f"{label:>40}: {value:8.2f} nats")
    for kind, path in (("pictures", f"{name}.png"), ("model", f"{name}.keras"), ("served", name)):
        print(f"{kind:>40}: {output / path}")
    return results


if __name__ == "__main__":
    common.run(main, resumes="--reproduce" in sys.argv)

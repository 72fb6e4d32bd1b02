"""The protocol of Shi et al. (2022), section 5: training bound against steps and wall-clock.

    python benchmarks/rodeo_protocol.py --data PATH
    python benchmarks/rodeo_protocol.py --data PATH --steps 1000000 --estimators "rodeo, K = 3"

200 Bernoulli latents with a learned prior, two layers of 200 LeakyReLU (.3) units on either side,
MNIST binarised dynamically, batches of 100, Adam at 1e-3. The bound is that of 5,000 training
images. Runs go on where they were stopped, and what is complete is not run again: with more
`--steps` the table and the figure hold what there is of them. `--table` trains nothing, and shows
how far each has come.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
from contestants import ESTIMATORS, batches, compile_for, load_images
from race_figure import COLOURS
from tqdm import tqdm

import long_runs
import tf_relax

mpl.use("Agg")
from matplotlib import pyplot as plt

DEFAULT = ["relax, objective, antithetic, K = 2", "arms, K = 4", "rodeo, K = 3"]
PUBLISHED = {"rodeo, K = 2": -101.89, "rodeo, K = 3": -100.46}  # after a million steps


def build(mean_image: np.ndarray) -> tf_relax.RelaxModel:
    """Returns the autoencoder, whose decoder starts at the mean image."""

    def hidden(x: keras.KerasTensor) -> keras.KerasTensor:
        for _ in range(2):
            x = keras.layers.LeakyReLU(negative_slope=0.3)(keras.layers.Dense(200)(x))
        return x

    inputs = keras.Input((len(mean_image),))
    centred = keras.layers.Rescaling(1.0, offset=-mean_image)(inputs)
    logits = keras.layers.Dense(200)(hidden(centred))
    code = tf_relax.layers.RelaxBernoulli(prior="learned", name="code")(logits)
    signed = keras.layers.Rescaling(2.0, offset=-1.0)(code)
    outputs = keras.layers.Dense(len(mean_image), name="pixels")(hidden(signed))
    model = tf_relax.RelaxModel(inputs, outputs)
    mean = np.clip(mean_image, 1e-3, 1 - 1e-3)
    model.get_layer("pixels").bias.assign(np.log(mean) - np.log1p(-mean))
    return model


def run(
    name: str, images: np.ndarray, steps: int, every: int, folder: Path
) -> list[long_runs.Checkpoint]:
    """Trains with one estimator for so many steps, from where its last run stopped."""
    keras.utils.set_random_seed(0)
    model = build(images.mean(axis=0))
    compile_for(model, ESTIMATORS[name])
    held = (np.random.default_rng(0).random(images[:5000].shape) < images[:5000]).astype("float32")
    own = folder_of(name, folder)
    return long_runs.train(model, batches(images, 0), held, steps, steps // every, own, {})


def folder_of(name: str, folder: Path) -> Path:
    """Returns the folder of the run of one estimator."""
    return folder / "".join(c if c.isalnum() else "_" for c in name)


def draw(runs: dict[str, list[long_runs.Checkpoint]], path: Path) -> None:
    """Draws the bounds against steps and against seconds."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for name, checkpoints in runs.items():
        bounds = [each.bound for each in checkpoints]
        color = COLOURS.get(name.split(",")[0], "0.5")
        axes[0].plot([each.step / 1e3 for each in checkpoints], bounds, label=name, color=color)
        axes[1].plot([each.seconds for each in checkpoints], bounds, color=color)
    # The first thousands of steps are a cliff that would hide all differences.
    later = [each.bound for checkpoints in runs.values() for each in checkpoints[1:]]
    if later:
        axes[0].set_ylim(min(later) - 0.5, max(later) + 0.5)
    axes[0].set(xlabel="thousand steps", ylabel="training ELBO in nats")
    axes[1].set(xlabel="seconds")
    axes[0].legend(fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the protocol, prints the bounds and draws them; returns the last of each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="local copy of MNIST")
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=DEFAULT)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=5000, help="steps from bound to bound")
    parser.add_argument("--output", type=Path, default=Path("outputs/rodeo_protocol"))
    parser.add_argument("--table", action="store_true", help="of what has been run; train nothing")
    arguments = parser.parse_args(argv)

    runs = {}
    if arguments.table:
        for name in arguments.estimators:
            log = folder_of(name, arguments.output) / "log.csv"
            if found := long_runs.read(log, arguments.every):
                runs[name] = found
        if not runs:
            parser.error(f"--table: no runs of these estimators in {arguments.output}")
    else:
        images = load_images(arguments.dataset, arguments.data)
        for name in tqdm(arguments.estimators, desc="estimators"):
            runs[name] = run(name, images, arguments.steps, arguments.every, arguments.output)
            tqdm.write(f"{name}: {runs[name][-1].bound:.2f} nats")
    print("\n| estimator | steps | seconds | bound | published, a million steps |")
    print("|---" * 5 + "|")
    for name, checkpoints in sorted(runs.items(), key=lambda pair: -pair[1][-1].bound):
        last = checkpoints[-1]
        published = PUBLISHED.get(name, "")
        print(f"| {name} | {last.step:,} | {last.seconds:.0f} | {last.bound:.2f} | {published} |")
    draw(runs, arguments.output / "bounds.png")
    print(f"\nfigure: {arguments.output / 'bounds.png'}")
    return {name: checkpoints[-1].bound for name, checkpoints in runs.items()}


if __name__ == "__main__":
    main()

"""Whether a process grows with the number of models that it has made, trained and audited.

    python benchmarks/memory.py

A round builds, compiles, fits and audits a small model and lets go of it; `--rounds 20 200`
measures the resident memory after 20 and after 200 of them, and the ratio should stay below 1.3.
`--what fit` leaves out the audit, which gives back what TensorFlow keeps ready to run of every
function; so does `--clear-session` after every round. `--what keras` is `fit` of a plain
`keras.Model`.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

import tf_relax
from tf_relax import audit


def keras_round(x: np.ndarray) -> None:
    """Fits a plain autoencoder."""
    inputs = keras.Input(x.shape[1:])
    hidden = keras.layers.Dense(4, "relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(x.shape[1])(hidden))
    model.compile("adam", loss="mse", jit_compile=False)
    model.fit(x, x, batch_size=len(x), verbose=0)


def fit_round(x: np.ndarray) -> tf_relax.RelaxModel:
    """Fits an autoencoder with binary latents."""
    inputs = keras.Input(x.shape[1:])
    code = tf_relax.layers.RelaxBernoulli(prior="learned")(keras.layers.Dense(4)(inputs))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(x.shape[1])(code))
    model.compile("adam", loss=tf_relax.losses.BernoulliNLL(), jit_compile=False)
    model.fit(x, x, batch_size=len(x), verbose=0)
    return model


def relax_round(x: np.ndarray) -> None:
    """Fits and audits an autoencoder with binary latents."""
    model = fit_round(x)
    audit(model, x, x, ["relax"], num_samples=8, surrogate_steps=1, reference="relax", verbose=0)


DATA = (np.random.default_rng(0).random((16, 8)) < 0.3).astype("float32")
ROUNDS: dict[str, Callable[[np.ndarray], object]] = {
    "relax": relax_round,
    "fit": fit_round,
    "keras": keras_round,
}


def resident_megabytes() -> float:
    """Returns what the process holds: models wait for the garbage collector, freed pages do not."""
    gc.collect()
    if sys.platform != "linux":  # the most that it ever held
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library alone
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main(argv: list[str] | None = None) -> float:
    """Runs the benchmark and returns the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", choices=ROUNDS, default="relax")
    parser.add_argument("--rounds", type=int, nargs=2, default=[20, 200])
    parser.add_argument("--clear-session", action="store_true", help="after every round")
    arguments = parser.parse_args(argv)
    first, last = arguments.rounds

    held = {}
    for count in tqdm(range(1, last + 1), desc="rounds"):
        ROUNDS[arguments.what](DATA)
        if arguments.clear_session:
            keras.backend.clear_session()
        if count in arguments.rounds:
            held[count] = resident_megabytes()
    for count, megabytes in held.items():
        print(f"{arguments.what}: {megabytes:6.0f} MB after {count} rounds")
    ratio = held[last] / held[first]
    print(f"ratio: {ratio:.2f}, {(held[last] - held[first]) / (last - first):.2f} MB a round")
    return ratio


if __name__ == "__main__":
    main()

"""Whether training holds out: many steps at hard settings, many models, many threads.

    python benchmarks/endurance.py --steps 200000 --log endurance.jsonl

trains a small autoencoder with binary latents under every setting and says after how many steps, if
any, something was not finite; `--settings` chooses among them. `--rounds 1000` builds, compiles and
fits so many models and measures the memory, and `--seconds 30` has eight threads predict while one
trains. With `--log` what a file knows already is not run again, so that a run that was stopped goes
on with the next setting.
"""

from __future__ import annotations

import argparse
import gc
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import memory
import numpy as np
from tqdm import tqdm

import tf_relax

PIXELS, BITS, EXAMPLES = 12, 6, 64


class Setting(NamedTuple):
    """A way to make training hard.

    Attributes:
        rate: of the main optimizer.
        data: makes inputs, which are the targets as well.
        logit_bias: of the encoder, of changing sign from bit to bit.
        temperature: where the surrogate's temperature is held; `None` lets it learn.
        estimator: to train with.
    """

    rate: float = 1e-3
    data: Callable[[np.random.Generator], np.ndarray] = lambda rng: rng.random((EXAMPLES, PIXELS))
    logit_bias: float = 0.0
    temperature: float | None = None
    estimator: str = "relax"

    def images(self) -> np.ndarray:
        return (self.data(np.random.default_rng(0)) < 0.4).astype("float32")


def _pixel_always_on(rng: np.random.Generator) -> np.ndarray:
    x = rng.random((EXAMPLES, PIXELS))
    x[:, 0], x[:, 1] = 0, 1
    return x


SETTINGS = {
    "plain": Setting(),
    "logits at 80": Setting(logit_bias=80.0),
    "rate ten times too large": Setting(rate=0.1),
    "constant inputs": Setting(data=lambda rng: np.ones((EXAMPLES, PIXELS))),
    "a pixel always on": Setting(data=_pixel_always_on, rate=1e-2),
    "temperature near zero": Setting(temperature=1e-3),
    "temperature very high": Setting(temperature=1e3),
    "all at once": Setting(0.1, _pixel_always_on, 80.0, 1e-3),
    "rebar": Setting(rate=0.1, logit_bias=80.0, estimator="rebar"),
    "disarm": Setting(rate=0.1, logit_bias=80.0, estimator="disarm"),
}


def autoencoder(setting: Setting) -> tf_relax.RelaxModel:
    """Bits between two dense layers."""
    bias = setting.logit_bias * np.resize([1.0, -1.0], BITS)
    inputs = keras.Input((PIXELS,))
    logits = keras.layers.Dense(BITS, bias_initializer=keras.initializers.Constant(0.0))(inputs)
    # A constant, so that logits stay there whatever the encoder learns.
    logits = keras.layers.Rescaling(1.0, offset=bias.tolist())(logits)
    code = tf_relax.layers.RelaxBernoulli(prior="learned", seed=0, name="code")(logits)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(PIXELS)(code))
    model.compile(
        tf_relax.RelaxOptimizer(
            keras.optimizers.Adam(setting.rate), surrogate_optimizer=keras.optimizers.Adam(1e-3)
        ),
        loss=tf_relax.losses.BernoulliNLL(),
        estimator=setting.estimator,
        steps_per_execution=100,
        jit_compile=False,
    )
    return model


class Held(keras.callbacks.Callback):
    """Holds a temperature, looks for what is not finite, and shows how far training is."""

    def __init__(self, setting: Setting, bar: Any):
        super().__init__()
        self.setting, self.bar = setting, bar
        self.broke: str | None = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        for state in self.model.estimator_state.by_layer.values():
            if self.setting.temperature is not None and hasattr(state, "log_temperature"):
                state.log_temperature.assign(np.log(self.setting.temperature))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.update(100)
        if not np.isfinite(list((logs or {}).values())).all():
            self.broke = f"the loss after {self.bar.n} steps"
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        for variable in [*self.model.variables, *self.model.optimizer.variables]:
            value = np.asarray(variable.numpy())
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                self.broke = self.broke or f"'{variable.path}' at the end"


def endure(name: str, steps: int) -> dict[str, Any]:
    """Trains for so many steps (hundreds) and returns what came of it."""
    setting = SETTINGS[name]
    keras.utils.set_random_seed(0)
    model = autoencoder(setting)
    x = np.tile(setting.images(), (100 * 16 // EXAMPLES, 1))  # a hundred batches of sixteen
    with tqdm(total=steps, desc=name) as bar:
        held = Held(setting, bar)
        history = model.fit(
            x, x, batch_size=16, epochs=max(steps // 100, 1), verbose=0, callbacks=[held]
        )
        done = bar.n
    return {"name": name, "steps": done, "broke": held.broke, "loss": history.history["loss"][-1]}


def many_rounds(count: int) -> dict[str, Any]:
    """Builds, compiles and fits so many models; memory after a tenth of them, and at the end."""
    held: list[float] = []
    for k in tqdm(range(1, count + 1), desc="models"):
        memory.fit_round(memory.DATA)
        keras.backend.clear_session()
        if k in (max(count // 10, 1), count):
            gc.collect()
            held.append(memory.resident_megabytes())
    return {"name": "models", "rounds": count, "first": held[0], "last": held[-1]}


def predict_while_training(seconds: float, threads: int = 8) -> dict[str, Any]:
    """Has threads predict with a model that another one trains."""
    setting = SETTINGS["plain"]
    model, x = autoencoder(setting), setting.images()
    model.fit(x, x, batch_size=16, verbose=0)
    model(x)
    errors: list[str] = []
    calls, stop = [0] * threads, threading.Event()

    def predict(number: int) -> None:
        try:
            while not stop.is_set():
                outputs = np.asarray(model(x, training=False))
                if outputs.shape != x.shape or not np.isfinite(outputs).all():
                    raise ValueError("a prediction is not valid")
                calls[number] += 1
        except Exception as error:  # all that a thread can do is say so
            errors.append(f"{type(error).__name__}: {error}")

    pool = [threading.Thread(target=predict, args=(k,)) for k in range(threads)]
    for thread in pool:
        thread.start()
    end, epochs = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < end and not errors:
            model.fit(x, x, batch_size=16, verbose=0)
            epochs += 1
    finally:
        stop.set()
        for thread in pool:
            thread.join()
    return {"name": "threads", "epochs": epochs, "calls": calls, "errors": errors}


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Runs what was asked for and returns what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000, help="per setting, 0 for none")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=0, help="models to build, compile and fit")
    parser.add_argument("--seconds", type=float, default=0, help="that threads predict for")
    parser.add_argument("--log", type=Path, help="JSON lines, to go on from")
    arguments = parser.parse_args(argv)

    pieces: dict[str, Callable[[], dict[str, Any]]] = {}
    if arguments.steps:
        for name in arguments.settings:
            pieces[f"{name}, {arguments.steps}"] = lambda name=name: endure(name, arguments.steps)
    if arguments.seconds:
        pieces[f"threads, {arguments.seconds:g}"] = lambda: predict_while_training(
            arguments.seconds
        )
    if arguments.rounds:
        pieces[f"models, {arguments.rounds}"] = lambda: many_rounds(arguments.rounds)

    log, known = arguments.log, {}
    if log is not None and log.exists():
        known = dict(json.loads(line) for line in log.read_text().splitlines())
    for key, run in pieces.items():
        if key in known:
            continue
        known[key] = run()
        keras.backend.clear_session()
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps([key, known[key]]) + "\n")
    results = [known[key] for key in pieces]
    for result in results:
        print(described(result))
    return results


def described(result: dict[str, Any]) -> str:
    """Returns a result as a line."""
    name = result["name"]
    if name == "models":
        first, last = result["first"], result["last"]
        return f"{result['rounds']} models: {first:.0f} MB after a tenth, {last:.0f} MB at the end"
    if name == "threads":
        outcome = "; ".join(result["errors"]) or "no error"
        return f"{sum(result['calls'])} predictions in {result['epochs']} epochs: {outcome}"
    broke = "finite" if result["broke"] is None else f"NOT FINITE: {result['broke']}"
    return f"{name:<26}{result['steps']:>9} steps, loss {result['loss']:10.3f}: {broke}"


if __name__ == "__main__":
    main()

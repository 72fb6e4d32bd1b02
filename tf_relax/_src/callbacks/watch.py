"""A picture of training while it runs."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src import pages
from tf_relax._src.callbacks import watch_figure, watch_measure, watch_panels
from tf_relax._src.callbacks.watch_figure import Drawn
from tf_relax._src.callbacks.watch_measure import SiteMeasurement
from tf_relax._src.training.batch import as_tensors

_REFRESH = 10  # seconds
_COLUMNS = {
    "entropy": "entropy [nats]",
    "usage_entropy": "usage entropy [nats]",
    "dead": "dead",
    "surrogate_fit": "fit of the surrogate",
    "temperature": "temperature",
    "scale": "scale",
    "gradient_variance": "gradient variance",
    "gradient_snr": "signal to noise",
}


class Measurement(NamedTuple):
    """What `Watch` measured at the end of an epoch.

    Attributes:
        epoch: its number, from 1.
        logs: what `fit` had logged by then.
        sites: by the names of the stochastic calls.
    """

    epoch: int
    logs: dict[str, float]
    sites: dict[str, SiteMeasurement]


class Watch(keras.callbacks.Callback):
    r"""Shows what a code and its gradient are like while a model trains.

    It measures on one batch $x_1 \dots x_N$, for every stochastic layer, at the end of the first
    epoch of a `fit`, of every epoch whose number (from 1) is a multiple of `frequency`, and of the
    last:

    - usage, $u = \frac{1}{N} \sum_n \mathbb{E}[b \mid x_n]$: how often a bit is 1, a category or a
      place is chosen;
    - `<layer>_entropy`, $\frac{1}{N} \sum_n H(b \mid x_n)$ in nats, per unit or choice: what is
      left to chance given the input; and, of bits and categories, `<layer>_usage_entropy`, $H(u)$.
      Their difference is what a unit or choice says about the input;
    - `<layer>_dead`, how many units are always or never used, $h(u_i) < d \, h(e_i)$ with
      $h(p) = -p \log p - (1 - p) \log(1 - p)$, `dead_below` for $d$, and $e$ the usage where logits
      favour nothing;
    - `<layer>_temperature` and `<layer>_scale` of the surrogate, where the estimator has them;
    - `<layer>_surrogate_fit`, $1 - \mathbb{E}[(f - c)^2] / \operatorname{Var}(f)$ over the batch,
      of control variates $c$ and learned baselines: 1 if they are the objective, 0 if they are no
      better than a constant;
    - `<layer>_gradient_variance` and `<layer>_gradient_snr`, as `GradientVariance` measures them.

    These numbers join the logs, and with them `History`, `CSVLogger` and the like where these come
    later in the list of callbacks; between measurements the logs repeat the last ones. Training
    itself is not changed by a bit: seeds, statistics and weights are what they would be without.
    Where there is no formula, laws are estimated from 16 draws per example, and entropies by
    $-\log p(b)$ of these; samples without a known probability have none.

    Args:
        x: inputs of a batch to measure on, arrays or tensors, `[batch, ...]`.
        y: its targets.
        log_dir: folder for TensorBoard: scalars, and heat maps as images, by the number of the
            epoch from 0, as Keras's own. `None` for none.
        output: folder for `watch.png` and `watch.html`, a page that needs nothing beside it. Both
            are replaced, whole, after each measurement; a browser reloads the page until training
            has ended. `None` for none.
        frequency: epochs between measurements.
        gradients: how many are drawn to measure variance and signal by, from all pairs of them;
            most of the price of a measurement.
        dead_below: share $d$ of the entropy of even use below which a unit is dead. At 0.1 a bit
            is dead that is 1 in less than 1.3 % or more than 98.7 % of the samples.

    Attributes:
        measurements: what was measured, in the order of the epochs.

    Raises:
        ImportError: for a `log_dir` or an `output` without matplotlib.
        ValueError: for an `x` without rows, a `frequency` below 1, fewer than 2 `gradients`, or
            a share outside (0, 1).
        TypeError: for a data set instead of a batch; (from `fit`) for a model that is not a
            `RelaxModel`.

    Example:

    >>> import keras, numpy as np, tempfile, tf_relax
    >>> inputs = keras.Input((3,))
    >>> code = tf_relax.layers.RelaxBernoulli(name="code")(keras.layers.Dense(2)(inputs))
    >>> model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(code))
    >>> model.compile("adam", loss="mse", estimator="disarm", jit_compile=False)
    >>> x = np.eye(3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     watch = Watch(x, x, output=folder)
    ...     history = model.fit(x, x, epochs=2, callbacks=[watch], verbose=0).history
    >>> [name for name in sorted(history) if "entropy" in name or "dead" in name]
    ['code_dead', 'code_entropy', 'code_usage_entropy']
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        log_dir: str | Path | None = None,
        output: str | Path | None = None,
        frequency: int = 1,
        gradients: int = 4,
        dead_below: float = 0.1,
    ):
        super().__init__()
        for name, value, least in (("frequency", frequency, 1), ("gradients", gradients, 2)):
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f"Watch: `{name}` must be a whole number, at least {least}. Received: {value!r}"
                )
        if not 0 < dead_below < 1:
            raise ValueError(f"Watch: `dead_below` must lie in (0, 1). Received: {dead_below!r}")
        if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)) or hasattr(x, "__next__"):
            raise TypeError(
                f"Watch measures on one batch of arrays or tensors. Received: {type(x).__name__}. "
                "Take a batch out of it: x, y = next(iter(dataset))."
            )
        if log_dir is not None or output is not None:
            watch_figure.needs_matplotlib("Watch with a `log_dir` or an `output`")
        self.x, self.y = as_tensors(x), as_tensors(y)
        rows = [each for each in keras.tree.flatten(self.x) if each is not None]
        if not rows or any(each.shape.rank == 0 or each.shape[0] == 0 for each in rows):
            raise ValueError(
                "Watch: `x` has no rows, so there is nothing to measure on. Pass a batch of inputs "
                "such as the first hundred of those that the model trains on."
            )
        self.log_dir = None if log_dir is None else Path(log_dir)
        self.output = None if output is None else Path(output)
        self.frequency, self.gradients, self.dead_below = frequency, gradients, dead_below
        self.measurements: list[Measurement] = []
        self._compiled_with: Any = None
        self._watched: Any = None
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not hasattr(self.model, "differentiate"):
            raise TypeError(
                f"Watch measures the stochastic layers of a tf_relax.RelaxModel. "
                f"'{self.model.name}' is a {type(self.model).__name__}."
            )
        if self._compiled_with is not self.model.optimizer:  # `compile` brings a new one
            self._compiled_with = self.model.optimizer
            options = {"jit_compile": bool(self.model.jit_compile), "autograph": False}
            self._draw_once = tf.function(self._gradient, **options)
            self._fit = tf.function(self._fits, **options)
        if self.model.run_eagerly:
            self._draw_once, self._fit = self._gradient, self._fits
        if self._watched is not self.model:
            self._watched, self.measurements = self.model, []
        self._values: dict[str, float] = {}
        self._first = True
        if self.log_dir is not None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # A fit that goes on from an earlier epoch makes later measurements untrue.
        self.measurements = [each for each in self.measurements if each.epoch <= epoch]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        number = epoch + 1
        if self._first or number % self.frequency == 0 or number == self.params.get("epochs"):
            self._first = False
            self._add_measurement(number, dict(logs or {}))
        if logs is not None:
            logs.update(self._values)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.measurements and self.output is not None:
            self._write_page(self._drawn, ended=True)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _gradient(self) -> dict[str, dict[str, tf.Tensor]]:
        return watch_measure.draw(self.model, self.x, self.y)

    def _fits(self) -> dict[str, tf.Tensor]:
        return watch_measure.surrogate_fits(self.model, self.x, self.y)

    def _add_measurement(self, number: int, logs: dict[str, Any]) -> None:
        layers = {layer.name: layer for layer in self.model.stochastic_layers}
        states, sites = self.model.estimator_state, {}
        measured = watch_measure.measured(self.model, self._draw_once, self._fit, self.gradients)
        for name, found in measured.items():
            layer = layers[name.split("[")[0]]
            state = states[layer.name]
            sites[name] = watch_measure.site_measurement(layer, state, found, self.dead_below)
        numbers = {k: float(v) for k, v in logs.items() if np.ndim(v) == 0}
        # Of the laws of single examples only those of now are shown.
        for each in self.measurements[-1:]:
            for name, site in each.sites.items():
                each.sites[name] = site._replace(probabilities=site.probabilities[:0])
        self.measurements.append(Measurement(number, numbers, sites))
        self._values = {
            f"{name}_{quantity}": value
            for name, site in sites.items()
            for quantity, value in site.scalars.items()
        }
        if self.output is None and self._writer is None:
            return
        whole, self._drawn = self._draw()
        if self.output is not None:
            pages.write(self.output / "watch.png", watch_figure.png(whole))
            self._write_page(self._drawn, ended=False)
        if self._writer is not None:
            self._write_summaries(number - 1, self._drawn)

    def _draw(self) -> tuple[np.ndarray, list[list[Drawn]]]:
        """Draws all measurements: the loss beside the first site, and every other site."""
        epochs = [each.epoch for each in self.measurements]
        groups = [
            watch_panels.panels_of_site(name, epochs, [m.sites[name] for m in self.measurements])
            for name in self.measurements[-1].sites
        ]
        losses = watch_panels.panels_of_losses(epochs, [each.logs for each in self.measurements])
        return watch_figure.draw([[*losses, *groups[0]], *groups[1:]])

    def _write_summaries(self, step: int, drawn: list[list[Drawn]]) -> None:
        now = self.measurements[-1]
        with self._writer.as_default(step=step):
            for (name, site), panels in zip(now.sites.items(), drawn, strict=True):
                for quantity, value in site.scalars.items():
                    if math.isfinite(value):
                        tf.summary.scalar(f"{name}/{quantity}", value)
                for panel in panels:
                    if panel.name in ("usage", "probabilities"):
                        tf.summary.image(f"{name}/{panel.name}", panel.pixels[np.newaxis])
        self._writer.flush()

    def _write_page(self, drawn: list[list[Drawn]], ended: bool) -> None:
        now, total = self.measurements[-1], self.params.get("epochs")
        state = "training has ended" if ended else f"training; this page reloads every {_REFRESH} s"
        head = f"Epoch {now.epoch}{'' if total is None else f' of {total}'}, {state}. Estimator: "
        parts = [
            f"<p>{pages.escaped(head)}<code>{pages.escaped(self.model.estimator)}</code>. Measured "
            f"on one batch; written at {time.strftime('%H:%M:%S')}.</p>",
            self._table(now),
        ]
        for (name, site), panels in zip(now.sites.items(), drawn, strict=True):
            what = watch_panels.things(site)
            parts.append(f"<h2>{pages.escaped(name)}: {site.kind}, {site.units} {what}</h2>")
            parts.append('<div class="panels">')
            for panel in panels:
                image = pages.picture(watch_figure.png(panel.pixels), panel.alternative)
                parts.append(
                    f"<figure>{image}<figcaption>{pages.escaped(panel.caption)}</figcaption>"
                    "</figure>"
                )
            notes = "".join(f"<li>{pages.escaped(note)}</li>" for note in site.notes)
            parts.append(f"</div>{f'<ul class=notes>{notes}</ul>' if notes else ''}")
        title = f"Watch: {self.model.name}"
        text = pages.page(title, "\n".join(parts), refresh=None if ended else _REFRESH)
        assert self.output is not None
        pages.write(self.output / "watch.html", text.encode())

    def _table(self, now: Measurement) -> str:
        shown = [name for name in _COLUMNS if any(name in s.scalars for s in now.sites.values())]
        lines = []
        for name, site in now.sites.items():
            scalars = site.scalars
            cells = [f"{scalars[q]:.4g}" if q in scalars else "-" for q in shown]
            if "dead" in scalars:
                cells[shown.index("dead")] += f" of {site.units}"
            lines.append([name, *cells])
        heads = ["layer", *(_COLUMNS[name] for name in shown)]
        return pages.table(heads, lines, f"At the end of epoch {now.epoch}.")

"""Logged slates of the Open Bandit data, models of their clicks, and values of other policies.

An impression shows an item a at one of three places k to a user with context x and earns a click
r or none. A policy is an array of probabilities `[contexts, places, items]`, pi_k(a | x). Its value
is its clicks per impression, the mean over the places of E_x E_{a ~ pi_k(. | x)}[r].

Saito, Aihara, Matsutani and Narita (2021), arXiv:2008.07146. The data are licensed CC BY 4.0.
"""

from __future__ import annotations

import csv
import functools
import importlib.util
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import scipy.stats

CAMPAIGNS = ("all", "men", "women")
PLACES = 3
RARE = 0.01  # of the rows: a value of a user feature that fewer have is no feature
INSTALL = "pip install --no-deps obp==0.4.1"


class Log(NamedTuple):
    """Impressions in order of time, `[rows]`; `place` counts from 0, `time` in days."""

    context: np.ndarray
    item: np.ndarray
    place: np.ndarray
    click: np.ndarray
    propensity: np.ndarray
    time: np.ndarray

    def where(self, rows: np.ndarray) -> Log:
        """Returns some of the rows."""
        return Log(*(column[rows] for column in self))


class Campaign(NamedTuple):
    """Two logs, features of contexts (those of users, and their frequent values) and of items."""

    random: Log
    bts: Log
    contexts: np.ndarray
    vocabulary: list[list[str]]
    users: np.ndarray
    items: np.ndarray
    kinds: np.ndarray


def folder() -> Path:
    """Returns where the package obp keeps its sample of the data, without importing it."""
    found = importlib.util.find_spec("obp")
    for place in (found.submodule_search_locations or []) if found else []:
        if (path := Path(place) / "dataset" / "obd").is_dir():
            return path
    raise SystemExit(f"This example needs the logs that the package obp brings: {INSTALL}")


def read(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table."""
    if not path.is_file():
        raise SystemExit(f"{path} is missing: {INSTALL} --force-reinstall")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def common_values(table: np.ndarray, share: float = 0.0) -> list[list[str]]:
    """Returns of every column the values that at least a share of the rows have."""
    found = [np.unique(column, return_counts=True) for column in table.T]
    return [values[counts >= share * len(table)].tolist() for values, counts in found]


def one_hot(table: np.ndarray, values: list[list[str]]) -> np.ndarray:
    """Returns indicators of these values of every column, and zeros for others."""
    parts = [
        column[:, None] == np.array(known) for column, known in zip(table.T, values, strict=True)
    ]
    return np.concatenate(parts, axis=1).astype(float)


def load(campaign: str, root: Path | None = None) -> Campaign:
    """Reads both logs of a campaign."""
    root = root or folder()
    tables = [read(root / p / campaign / f"{campaign}.csv") for p in ("random", "bts")]
    seen = np.array([[row[f"user_feature_{j}"] for j in range(4)] for t in tables for row in t])
    contexts, index = np.unique(seen, axis=0, return_inverse=True)
    parts = np.split(index.reshape(-1), [len(tables[0])])
    logs = [to_log(table, part) for table, part in zip(tables, parts, strict=True)]
    vocabulary = common_values(seen, RARE)

    described = read(root / "random" / campaign / "item_context.csv")
    described.sort(key=lambda row: int(row["item_id"]))
    kinds = np.array([[row[f"item_feature_{j}"] for j in range(1, 4)] for row in described])
    number = np.array([[float(row["item_feature_0"])] for row in described])
    indicators = one_hot(kinds, common_values(kinds))
    items = np.concatenate([np.eye(len(number)), number, indicators], axis=1)
    last = one_hot(kinds[:, 2:], common_values(kinds[:, 2:]))
    return Campaign(*logs, contexts, vocabulary, one_hot(contexts, vocabulary), items, last)


def to_log(table: list[dict[str, str]], context: np.ndarray) -> Log:
    """Returns columns of numbers; times are in days."""
    names = ("item_id", "position", "click", "propensity_score")
    item, position, click, propensity = (np.array([float(row[k]) for row in table]) for k in names)
    stamps = np.array([row["timestamp"].split("+")[0] for row in table], "datetime64[us]")
    time = (stamps - np.datetime64("2019-11-24")) / np.timedelta64(1, "D")
    return Log(context, item.astype(int), position.astype(int) - 1, click, propensity, time)


def join(*logs: Log) -> Log:
    """Returns the rows of several logs, one log after the other."""
    return Log(*(np.concatenate(columns) for columns in zip(*logs, strict=True)))


class ClickModel:
    """Logistic regression of clicks with normal priors, fitted by Newton's method.

    `logit q(x, a, k) = w_0 + v^T items_a + place_k + u^T users_x + users_x^T W kinds_a`, where the
    prior deviation of all but w_0 is `main`, and of W `cross`.
    """

    def __init__(self, campaign: Campaign, main: float = 0.5, cross: float = 0.25):
        self.campaign = campaign
        crossed = campaign.users.shape[1] * campaign.kinds.shape[1]
        mains = campaign.items.shape[1] + PLACES + campaign.users.shape[1]
        self.precision = np.repeat([1e-4, main**-2, cross**-2], [1, mains, crossed])
        self.weights = np.zeros(len(self.precision))

    def design(self, context: np.ndarray, item: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Returns what the weights multiply, `[rows, weights]`."""
        users, kinds = self.campaign.users[context], self.campaign.kinds[item]
        crossed = np.einsum("ru,rk->ruk", users, kinds).reshape(len(users), -1)
        ones = np.ones((len(users), 1))
        parts = [ones, self.campaign.items[item], np.eye(PLACES)[place], users, crossed]
        return np.concatenate(parts, axis=1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Contexts, places, items."""
        return len(self.campaign.users), PLACES, len(self.campaign.items)

    def fit(self, log: Log, steps: int = 10) -> ClickModel:
        """Maximises the posterior density of the weights."""
        cell = np.ravel_multi_index((log.context, log.place, log.item), self.shape)
        cell, inverse, count = np.unique(cell, return_inverse=True, return_counts=True)
        clicks = np.bincount(inverse.reshape(-1), log.click)
        context, place, item = np.unravel_index(cell, self.shape)
        x = self.design(context, item, place)
        self.weights[0] = np.log(log.click.mean() + 1e-6)
        for _ in range(steps):
            q = 1 / (1 + np.exp(-x @ self.weights))
            slope = x.T @ (count * q - clicks) + self.precision * self.weights
            curvature = (x * (count * q * (1 - q))[:, None]).T @ x + np.diag(self.precision)
            self.weights -= np.linalg.solve(curvature, slope)
        return self

    def predict(self) -> np.ndarray:
        """Returns q(x, a, k) as `[contexts, places, items]`."""
        context, place, item = (index.reshape(-1) for index in np.indices(self.shape))
        logits = self.design(context, item, place) @ self.weights
        return (1 / (1 + np.exp(-logits))).reshape(self.shape)


def marginals(scores: Any) -> Any:
    r"""Returns the probabilities of the items at three places, Plackett and Luce, `[..., 3, n]`.

    With `e = exp(scores)`, `P(i, j) = e_i / sum(e) e_j / (sum(e) - e_i)` of the first two places,
    and `P(a third) = sum_{i, j, a all different} P(i, j) e_a / (sum(e) - e_i - e_j)`.
    """
    ops = keras.ops
    e = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
    others = 1 - ops.eye(e.shape[-1], dtype=e.dtype)  # sums without an item, not differences
    rest = ops.matmul(e, others)
    first = e / ops.sum(e, axis=-1, keepdims=True)
    pair = (first / rest)[..., :, None] * e[..., None, :] * others
    left = ops.matmul(e[..., None, :] * others, others) + ops.eye(e.shape[-1], dtype=e.dtype)
    third = e * ops.sum(ops.matmul(pair / left, others) * others, axis=-2)
    return ops.stack([first, ops.sum(pair, axis=-2), third], axis=-2)


def always(slates: np.ndarray, items: int) -> np.ndarray:
    """Returns the policy that shows these three items, `[contexts, 3]`."""
    return np.eye(items)[slates]


def best_slates(values: np.ndarray) -> np.ndarray:
    """Returns the three different items of the largest `sum_k values[x, k, a_k]`, `[contexts, 3]`.

    Each is among the three best of its place, as the others take up two items at most.
    """
    top = np.argsort(-values, axis=-1, kind="stable")[:, :, :PLACES]
    picks = np.array(list(itertools.product(range(PLACES), repeat=PLACES)))
    slates = np.stack([top[:, k, picks[:, k]] for k in range(PLACES)], axis=-1)
    worth = np.take_along_axis(values, slates.swapaxes(1, 2), axis=-1).sum(1)
    twice = (slates == np.roll(slates, 1, axis=-1)).any(-1)
    best = np.where(twice, -np.inf, worth).argmax(-1)
    return slates[np.arange(len(slates)), best]


def popular(log: Log, items: int, strength: float = 500.0) -> np.ndarray:
    """Returns `(clicks + strength mean) / (impressions + strength)` of every item."""
    clicks, shown = np.bincount(log.item, log.click, items), np.bincount(log.item, minlength=items)
    return (clicks + strength * log.click.mean()) / (shown + strength)


def doubly_robust(log: Log, q: np.ndarray, shrink: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns R and the shares of the contexts: `sum_k,a pi_k(a | x) R[x, k, a]` is the value.

    `R[x, k, a] = q(x, a, k) / 3 + sum_{rows of x with k, a} (r - q) / p / rows of x`.
    """
    rows = np.bincount(log.context, minlength=len(q))
    result = q / PLACES
    at = log.context, log.place, log.item
    extra = shrink * (log.click - q[at]) / log.propensity / rows[log.context]
    np.add.at(result, at, extra)
    return result, rows / rows.sum()


def weights(log: Log, policy: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns `w = pi_k(a | x) / p` and `sum_a pi_k(a | x) q(x, a, k)` of rows, `[2, rows]`."""
    w = policy[log.context, log.place, log.item] / log.propensity
    return np.stack([w, (policy * q).sum(-1)[log.context, log.place]])


def terms(log: Log, q: np.ndarray, w: np.ndarray, direct: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what estimators of value sum over rows above and below the line, `[2, rows]` each.

    IPS `w r / 1`, SNIPS `w r / w`, DR `[sum_a pi_k(a | x) q(x, a, k) + w (r - q(x, a, k))] / 1`.
    """
    one, residual = np.ones(len(w)), log.click - q[log.context, log.place, log.item]
    return {
        "IPS": np.stack([w * log.click, one]),
        "SNIPS": np.stack([w * log.click, w]),
        "DR": np.stack([direct + w * residual, one]),
    }


@functools.lru_cache(maxsize=16)
def resamples(rows: int, draws: int, seed: int) -> np.ndarray:
    """Returns how often a bootstrap draws every row, `[rows, draws]`, the same for all methods."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(rows, np.full(rows, 1 / rows), size=draws).T.astype("float32")


def interval(ratio: np.ndarray, draws: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """Returns `sum_r ratio[0] / sum_r ratio[1]` and its 95 % bootstrap interval over rows."""
    above, below = ratio.astype("float32") @ resamples(ratio.shape[1], draws, seed)
    low, high = np.quantile(above / np.maximum(below, 1e-6), [0.025, 0.975])
    return float(ratio[0].sum() / max(ratio[1].sum(), 1e-6)), float(low), float(high)


def agreement(clicks: float, rows: float) -> tuple[float, float, float]:
    """Returns `clicks / rows` and the 95 % interval of Clopper and Pearson, good for rare events.

    A bootstrap does not: without a click among the rows it has none to draw.
    """
    low = scipy.stats.beta.ppf(0.025, clicks, rows - clicks + 1) if clicks else 0.0
    high = scipy.stats.beta.ppf(0.975, clicks + 1, rows - clicks) if clicks < rows else 1.0
    return clicks / max(rows, 1), float(low), float(high)

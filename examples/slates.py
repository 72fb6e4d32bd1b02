r"""Slates of three items, trained on logged clicks and judged on later clicks.

The Open Bandit data (Saito et al. 2021, arXiv:2008.07146, CC BY 4.0) are impressions of a fashion
shop: who looked, which item stood at which of three places, by what probability, and whether it
was clicked. One log is of a uniformly random policy, one of Bernoulli Thompson sampling (BTS). A
scorer of items, given the user, and the order of Plackett and Luce make a policy; RELAX and others
train it to maximise an estimate of clicks per impression, which is looked up for three items:

    value(slate | x) = sum_k R[x, k, slate_k],

    --objectives direct  R = q / 3, the click rates of a logistic regression on both logs;
                 robust  R = q / 3 + mean over the random log's rows of x of 1[k, a] (r - q) / p:
                         doubly robust, so it hangs on a few dozen clicks.

Seed s trains on the first s + 2 of `--seeds` + 2 parts of the week, equally long in rows, and its
policy is judged on the part that follows in the random log, by IPS, SNIPS and DR. The table pools
the parts. What is trained on is never judged on, and nobody looks ahead.

In a simulation, clicks of both logs are drawn anew from a regression fitted to all of them, so the
true value of every policy is known: it shows what maximising an estimate does to the truth.

Because the value is a sum over places its gradient has a closed form ("exact", the bound for all
others), and the best slate for `direct` is found by sorting ("greedy"). Estimators are not told:
they see values of slates, and RELAX's surrogate and Gumbel-softmax evaluate R at relaxed ones. All
have the same number of evaluations, `--batch-size` per step, those at relaxed slates included.

`python examples/slates.py` needs the logs: pip install --no-deps obp==0.4.1
"""

from __future__ import annotations

import csv
import functools
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import common
import slate_logs
import slate_policies
from slate_logs import Campaign, ClickModel, Log
from slate_policies import ESTIMATORS, OBJECTIVES, PER_THOUSAND, Contestant, Task, make_task

ESTIMATES = ("IPS", "SNIPS", "DR")


def splits(campaign: Campaign, seeds: int) -> list[tuple[Log, Log, Log, Log]]:
    """Returns of every seed the rows before a time, random and BTS, and those of the part after."""
    edges = np.quantile(campaign.random.time, np.linspace(0, 1, seeds + 3))
    edges[-1] = np.inf
    result = []
    for start, end in itertools.pairwise(edges[2:]):
        logs = campaign.random, campaign.bts
        before = [log.where(log.time < start) for log in logs]
        after = [log.where((log.time >= start) & (log.time < end)) for log in logs]
        result.append((*before, *after))
    return result


def learn(contestant: Contestant, task: Task, seed: int, later: Log, q: np.ndarray) -> dict:
    """Trains a policy and returns its weights on the rows after."""
    scores, curve = contestant.train(task, seed)
    policies = slate_policies.of_scores(scores)
    kept = {k: slate_logs.weights(later, v, q).round(8).tolist() for k, v in policies.items()}
    return {"curve": curve, "weights": kept}


def learn_known(contestant: Contestant, task: Task, seed: int, true: Task) -> list[float]:
    """Trains a policy and returns its true value, what it was told, and the true one of modes."""
    sampled, mode = slate_policies.of_scores(contestant.train(task, seed)[0]).values()
    return [true.value(sampled), task.value(sampled), true.value(mode)]


def judge_logs(campaign: Campaign, contestants: dict, results: Any, args: Any, bar: Any) -> dict:
    """Returns terms of all methods on the held-out rows, and the curves of training."""
    found: dict[str, list] = {}
    curves: dict[str, list] = {}
    for seed, (random, bts, later, later_bts) in enumerate(splits(campaign, args.seeds)):
        both = slate_logs.join(random, bts)
        q = ClickModel(campaign).fit(both).predict()
        rows = {
            name: slate_logs.weights(later, policy, q)
            for name, policy in slate_policies.baselines(campaign, both, q).items()
        }
        for objective in args.objectives:
            for name, contestant in contestants.items():
                task = make_task(objective, random, q)
                compute = functools.partial(learn, contestant, task, seed, later, q)
                run = results.get(f"logs, {objective}, {name}", seed, compute)
                curves.setdefault(f"{objective}, {name}", []).append(run["curve"])
                for kind, kept in run["weights"].items():
                    rows[f"{name}, {objective}{kind}"] = np.array(kept)
                bar.update()
        for name, (w, direct) in rows.items():
            found.setdefault(name, []).append((later, slate_logs.terms(later, q, w, direct)))
        on = np.stack([later_bts.click, np.ones(len(later_bts.item))])
        found.setdefault("BTS, its own log", []).append((later_bts, {"on-policy": on}))
    return {"terms": found, "curves": curves}


def simulate(campaign: Campaign, contestants: dict, results: Any, args: Any, bar: Any) -> dict:
    """Returns true values and those that training was told, of all methods and draws of clicks."""
    both = slate_logs.join(campaign.random, campaign.bts)
    truth = ClickModel(campaign, 1.0, 1.0).fit(both).predict()
    share = np.bincount(campaign.random.context, minlength=len(truth)) / len(campaign.random.item)
    true = Task(PER_THOUSAND * truth / slate_logs.PLACES, share)
    best = slate_logs.always(slate_logs.best_slates(truth), truth.shape[2])
    found: dict[str, list] = {
        "best possible": [(true.value(best), np.nan, true.value(best))] * args.seeds
    }
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        random, bts = (redraw(log, truth, args.repeat, rng) for log in campaign[:2])
        drawn = slate_logs.join(random, bts)
        q = ClickModel(campaign).fit(drawn).predict()
        for name, policy in slate_policies.baselines(campaign, drawn, q).items():
            found.setdefault(name, []).append((true.value(policy), np.nan, true.value(policy)))
        for objective in args.objectives:
            for name, contestant in contestants.items():
                task = make_task(objective, random, q)
                compute = functools.partial(learn_known, contestant, task, seed, true)
                run = results.get(f"simulation, {objective}, {name}", seed, compute)
                found.setdefault(f"{name}, {objective}", []).append(run)
                bar.update()
    return found


def redraw(log: Log, truth: np.ndarray, repeat: int, rng: np.random.Generator) -> Log:
    """Returns the log so many times, with clicks of known probability."""
    log = Log(*(np.tile(column, repeat) for column in log))
    clicks = rng.random(len(log.item)) < truth[log.context, log.place, log.item]
    return log._replace(click=clicks.astype(float))


def per_thousand(ratio: np.ndarray) -> tuple[float, ...]:
    """Returns value and interval in clicks per thousand impressions."""
    return tuple(PER_THOUSAND * number for number in slate_logs.interval(ratio))


def summarise(terms: dict[str, list], path: Path) -> dict[str, dict]:
    """Returns value and interval by method and estimate; those of single places go to a file."""
    values: dict[str, dict] = {}
    lines = []
    for name, parts in terms.items():
        place = np.concatenate([log.place for log, _ in parts])
        ratios = {
            kind: np.concatenate([of_part[kind] for _, of_part in parts], axis=1)
            for kind in parts[0][1]
        }
        if "DR" in ratios:  # of the same rows, so what they have in common cancels
            uniform = np.concatenate([of_part["DR"] for _, of_part in terms["random"]], axis=1)
            difference = ratios["DR"][0] - uniform[0]
            ratios["DR - random"] = np.stack([difference, ratios["DR"][1]])
        for kind, ratio in ratios.items():
            values.setdefault(name, {})[kind] = per_thousand(ratio)
            for k in range(slate_logs.PLACES):
                found = np.round(per_thousand(ratio[:, place == k]), 3)
                lines.append((name, kind, k + 1, *found))
        if "IPS" in ratios:
            # w p = pi: rows in which the policy would have shown what was shown, and their clicks.
            propensity = np.concatenate([log.propensity for log, _ in parts])
            shown = ratios["SNIPS"][1] * propensity
            agrees = float(np.sum(ratios["IPS"][0] * propensity)), float(np.sum(shown))
            values[name]["agrees"] = agrees
            if np.all(np.minimum(shown, abs(1 - shown)) < 1e-6):  # one slate in every context
                exact = slate_logs.agreement(*(float(round(number)) for number in agrees))
                values[name]["binomial"] = tuple(PER_THOUSAND * number for number in exact)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("method", "estimate", "place", "value", "low", "high"))
        writer.writerows(lines)
    return values


def cell(found: tuple[float, float, float]) -> str:
    """Returns value and interval."""
    return f"{found[0]:6.2f} [{found[1]:5.2f},{found[2]:6.2f}]"


def plot(values: dict, simulated: dict, curves: dict, args: Any) -> None:
    """Draws values on later rows, of fixed slates by agreement, in the simulation, and training."""
    figure, grid = common.figure(1, 3, width=5.6, height=4.8)
    left, middle, right = grid[0]
    found = {
        name: kinds.get("binomial") or kinds.get("on-policy") or kinds["IPS"]
        for name, kinds in values.items()
        if "binomial" in kinds or "on-policy" in kinds or name == "random"
    }
    known = {}
    for name, runs in simulated.items():
        value, error = common.mean_and_error([run[0] for run in runs])
        known[name] = value, value - error, value + error
    for axes, shown in ((left, found), (middle, known)):
        for y, (name, (value, low, high)) in enumerate(shown.items()):
            axes.plot([low, high], [y, y], color=common.style(name)["color"], linewidth=2)
            axes.plot([value], [y], "o", color=common.style(name)["color"])
        axes.set_yticks(range(len(shown)), shown)
        axes.invert_yaxis()
    left.set(xlabel="clicks per 1,000 impressions", title="later rows of the log, 95 % intervals")
    middle.set(xlabel="clicks per 1,000 impressions", title="simulation, true value")
    steps = slate_policies.checkpoints(args.steps)
    for name, runs in curves.items():
        objective, estimator = name.split(", ")
        if objective == args.objectives[-1]:
            common.curve(right, steps, runs, estimator)
    right.set(xlabel="steps", ylabel="share of the best of the objective")
    right.set_title(f"training on the objective `{args.objectives[-1]}`")
    right.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    common.save(figure, args.output / "slates.png")


def report(values: dict, simulated: dict, curves: dict) -> None:
    """Prints both tables."""
    print("\nHeld-out log of the random policy, clicks per 1,000 impressions, 95 % intervals")
    heads = "".join(f"{kind:>22}" for kind in (*ESTIMATES, "DR - random"))
    print(f"{'method':<28}{heads}   agrees in (95 %)")
    for name, found in values.items():
        if "on-policy" in found:
            print(f"{name:<28} {cell(found['on-policy'])}  (clicks of its own log)")
            continue
        cells = " ".join(cell(found[kind]) for kind in (*ESTIMATES, "DR - random"))
        clicks, rows = found["agrees"]
        exact = cell(found["binomial"]) if "binomial" in found else ""
        print(f"{name:<28} {cells} {clicks:5.1f} of {rows:4.0f} {exact}".rstrip())
    print("\nTraining: share of the best of the objective, mean and standard error over seeds")
    for name, runs in curves.items():
        mean, error = common.mean_and_error([run[-1] for run in runs])
        print(f"{name:<28} {100 * mean:6.1f} +- {100 * error:.1f} %")
    print("\nSimulation, clicks per 1,000 impressions, mean and standard error over seeds")
    print(f"{'method':<28} {'true value':>15} {'what it was told':>18} {'true, mode':>15}")
    for name, runs in simulated.items():
        mean, error = common.mean_and_error(runs)
        cells = [f"{m:7.2f} +- {e:.2f}" if m == m else "" for m, e in zip(mean, error, strict=True)]
        print(f"{name:<28} {cells[0]:>15} {cells[1]:>18} {cells[2]:>15}")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs the command line and returns values by method, on the logs and in the simulation."""
    parser = common.parser(__doc__, output="outputs/slates", seeds=5)
    parser.add_argument("--campaign", choices=slate_logs.CAMPAIGNS, default="men")
    for option, known in (("estimators", list(ESTIMATORS)), ("objectives", list(OBJECTIVES))):
        parser.add_argument(f"--{option}", nargs="+", choices=known, default=known)
    parser.add_argument("--steps", type=common.count, default=300, help="of every run")
    parser.add_argument("--batch-size", type=common.count, default=256, help="evaluations per step")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--repeat", type=common.count, default=1, help="logs in the simulation")
    args = parser.parse_args(argv)
    if args.batch_size % 4:
        parser.error("--batch-size has to be a multiple of 4, the largest number of evaluations")
    if args.learning_rate <= 0:
        parser.error("--learning-rate has to be above 0")
    start = time.perf_counter()
    campaign = slate_logs.load(args.campaign)
    found = ", ".join(f"{log.click.sum():.0f} of {len(log.item)}" for log in campaign[:2])
    print(f"{args.campaign}: {len(campaign.items)} items; clicks, random and BTS: {found}")
    kept = ("campaign", "steps", "batch_size", "learning_rate", "seeds", "repeat")
    settings = {name: getattr(args, name) for name in kept}
    results = common.Results(args.output / "runs.json", settings)
    contestants = {name: Contestant(name, campaign, args) for name in args.estimators}
    runs = 2 * args.seeds * len(args.objectives) * len(contestants)
    with tqdm(total=runs, unit="run") as bar:
        judged = judge_logs(campaign, contestants, results, args, bar)
        simulated = simulate(campaign, contestants, results, args, bar)
    values = summarise(judged["terms"], args.output / "places.csv")
    report(values, simulated, judged["curves"])
    plot(values, simulated, judged["curves"], args)

    # What goes to the shop has seen all of the week.
    both = slate_logs.join(campaign.random, campaign.bts)
    task = make_task(args.objectives[0], campaign.random, ClickModel(campaign).fit(both).predict())
    contestant = next(iter(contestants.values()))
    contestant.train(task, seed=0)
    slate_policies.export(campaign, contestant.scorer, args.output / "served")
    print(f"\n{time.perf_counter() - start:.0f} s. Figure, values by place, model: {args.output}")
    return {"values": values, "simulated": simulated, "curves": judged["curves"]}


if __name__ == "__main__":
    common.run(main)

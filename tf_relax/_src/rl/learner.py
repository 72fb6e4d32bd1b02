"""One update: from a rollout to gradients, and from these to new weights."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import tensorflow as tf

from tf_relax._src.critic import Critic
from tf_relax._src.relaxations import Discrete, Draw
from tf_relax._src.rl.gradient.estimators import Steps
from tf_relax._src.rl.gradient.returns import lambda_returns
from tf_relax._src.rl.gradient.squared_gradient import squared_gradient_slope
from tf_relax._src.rl.steps.trust_region import Proposal, event_sum
from tf_relax._src.rl.trainer import Trainer
from tf_relax._src.rl.world.recurrence import Seen
from tf_relax._src.rl.world.rollout import Rollout
from tf_relax._src.updates import apply


class Evidence(NamedTuple):
    """What a rollout says about the policy, before anything is changed.

    Attributes:
        logit_gradients: of the expected return, `[batch, logits]`, 0 where a row is no step.
        gradients: what the policy's optimizer descends, per variable: minus the estimate, minus the
            entropy bonus, plus regularizers.
        surrogate_gradients: of the mean squared gradient per trajectory, per surrogate variable.
        value_gradients: of the mean squared error of the value, per variable of its own.
        returns: estimates of what followed every step, `[steps, trajectories]`.
        values: ``V(s)``, of the same shape.
        proposal: what a trust region needs.
        entropy: mean over the steps.
    """

    logit_gradients: tf.Tensor
    gradients: list[tf.Tensor]
    surrogate_gradients: list[tf.Tensor]
    value_gradients: list[tf.Tensor]
    returns: tf.Tensor
    values: tf.Tensor
    proposal: Proposal
    entropy: tf.Tensor


def differentiate(
    trainer: Trainer,
    rollout: Rollout,
    noise: tf.Tensor | None = None,
    behaviour: tf.Tensor | None = None,
) -> Evidence:
    """Estimates all gradients of one update.

    Args:
        trainer: a `PolicyGradient`.
        rollout: what was recorded, as tensors.
        noise: of ``z~``, `[steps, trajectories, ...]`; drawn where an estimator needs it and none
            is given.
        behaviour: log-probabilities of the actions under the policy that took them, where that was
            another one, `[steps, trajectories]`; see `VTrace`.
    """
    estimator, relaxation = trainer.estimator, trainer.action_space.relaxation
    trajectories = rollout.rewards.shape[1]
    seen = trainer.seen(rollout)
    states, taken, z_noise = map(_rows, (rollout.observations, rollout.actions, rollout.noise))
    mask = _rows(rollout.mask)
    policy = trainer.policy.trainable_variables
    # Constants, for a roll-out divided by the steps that happen to be in it would be biased.
    rows = rollout.rewards.shape[0] if trainer.n_steps is not None else 1
    divisor = trajectories * rows

    def evaluate(
        chosen: tf.Tensor | None = None, weights: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Any]:
        some, target = seen, _rows(worth.targets)
        if chosen is not None:  # of a policy that remembers nothing: one row of many columns
            rows, target = tf.gather(states, chosen), tf.gather(target, chosen)
            some = Seen(rows[tf.newaxis], tf.ones_like(target)[tf.newaxis])
        logits = trainer.unrolled_logits(some)
        extra = penalty(trainer.policy)
        if trainer.shared_variables:
            error = tf.square(target - trainer.unrolled_values(some)[0])
            count = divisor if weights is None else tf.reduce_sum(weights)
            total = tf.reduce_sum(error * (mask if weights is None else weights))
            extra += trainer.value_weight * total / count
        return logits, extra

    ratio = None
    if behaviour is not None:
        ratio = tf.exp(log_prob(trainer, rollout) - behaviour)
    worth = _value(trainer, rollout, ratio)
    with tf.GradientTape(persistent=True) as policy_tape:
        logits, extra = evaluate()
    a = tf.stop_gradient(logits)
    draw = relaxation.sample(a, z_noise)
    # The action that was taken, even if rounding had it otherwise.
    draw = Draw(noise=z_noise, z=draw.z if isinstance(relaxation, Discrete) else taken, b=taken)
    lam = 1.0 if trainer.gae_lambda is None else trainer.gae_lambda
    steps = Steps(
        relaxation=relaxation,
        logits=a,
        draw=draw,
        noise=trainer.draw_noise(tf.shape(z_noise)) if noise is None else _rows(noise),
        states=states,
        returns=_rows(worth.returns),
        values=_rows(worth.values),
        decay=trainer.gamma * lam * (1 - rollout.done),
        mask=rollout.mask,
        critic=trainer.critic,
    )
    # One that is fitted off policy does not learn from the squared gradient.
    learns = trainer.critic if estimator.off_policy is None else None
    with tf.GradientTape() as surrogate_tape:
        g = estimator.gradient(steps) * mask[:, tf.newaxis]
        critic_extra = penalty(learns) if learns is not None else 0.0
    surrogate_gradients: list[tf.Tensor] = []
    if learns is not None:
        # E[g] does not depend on the surrogate: descending E[g^2] descends the variance.
        slope = squared_gradient_slope(trainer, seen, g)
        targets, seeds = [g], [2 * slope / (divisor * rows)]
        if tf.is_tensor(critic_extra):
            targets, seeds = [g, critic_extra], [*seeds, tf.ones_like(critic_extra)]
        surrogate_gradients = surrogate_tape.gradient(
            targets, learns.trainable_variables, output_gradients=seeds
        )

    with tf.GradientTape() as tape:
        tape.watch(a)
        entropy = event_sum(relaxation.entropy(a))
        total = tf.reduce_sum(entropy * mask)
    bonus = trainer.entropy_weight * tape.gradient(total, a)
    descent = -(g + bonus) / divisor
    gradients = policy_tape.gradient(logits, policy, output_gradients=descent)
    if tf.is_tensor(extra):
        others = policy_tape.gradient(extra, policy)
        gradients = [_sum(x, y) for x, y in zip(gradients, others, strict=True)]
    gradients = _connected(gradients, policy, trainer.policy.name)

    proposal = Proposal(
        policy=policy,
        optimizer=trainer.optimizer,
        evaluate=evaluate,
        old=a,
        descent=descent,
        gradients=gradients,
        relaxation=relaxation,
        draw=draw,
        advantages=_rows(worth.returns - worth.values),
        entropy_weight=trainer.entropy_weight,
        mask=mask,
        divisor=divisor,
    )
    return Evidence(
        logit_gradients=g,
        gradients=gradients,
        surrogate_gradients=surrogate_gradients,
        value_gradients=worth.gradients,
        returns=worth.targets,
        values=worth.values,
        proposal=proposal,
        entropy=proposal.mean(entropy),
    )


def penalty(model: Any) -> Any:
    """Returns the sum of a model's regularizers and `add_loss` terms of its latest call; or 0.0."""
    losses = [tf.cast(loss, tf.float32) for loss in model.losses]
    return tf.add_n(losses) if losses else 0.0


def _sum(x: tf.Tensor | None, y: tf.Tensor | None) -> tf.Tensor | None:
    return y if x is None else x if y is None else x + y


def _connected(gradients: list[Any], variables: list[Any], name: str) -> list[tf.Tensor]:
    """Puts zeros where a variable has no gradient, and says which have none."""
    pairs = list(zip(gradients, variables, strict=True))
    missing = [variable.path for gradient, variable in pairs if gradient is None]
    if missing:
        warnings.warn(
            f"The output of the policy '{name}' does not depend on {', '.join(missing)}, which "
            "will stay as it is. Remove what is not used, or set its layer's `trainable` to False.",
            stacklevel=2,
        )
    return [tf.zeros_like(v.value) if g is None else tf.convert_to_tensor(g) for g, v in pairs]


def update(
    trainer: Trainer, rollout: Rollout, more_value_steps: bool
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Updates everything that learns; returns what there is to report, and the returns.

    Args:
        trainer: a `PolicyGradient`.
        rollout: what was recorded, as tensors.
        more_value_steps: whether the value takes more than one step: a loop costs time where it has
            nothing to do, too.
    """
    evidence = differentiate(trainer, rollout)
    proposal = evidence.proposal
    _move(trainer, evidence)
    if trainer.critic is not None and evidence.surrogate_gradients:
        apply(
            trainer.surrogate_optimizer,
            evidence.surrogate_gradients,
            trainer.critic.trainable_variables,
        )
    logs = {
        "entropy": evidence.entropy,
        "kl": proposal.kl(proposal.logits()),
        "gradient_log_variance": trainer.gradient_moments.update(evidence.gradients),
    }
    if trainer.value is not None:
        _train_value(trainer, rollout, evidence, more_value_steps)
        error = _rows(evidence.returns - evidence.values)
        variance = _variance(proposal, _rows(evidence.returns))
        logs["explained_variance"] = 1 - _variance(proposal, error) / (variance + 1e-12)
        logs["value_loss"] = proposal.mean(tf.square(error))
    return logs, evidence.returns


def reuse(
    trainer: Trainer, more_value_steps: bool, rollout: Rollout, behaviour: tf.Tensor
) -> tf.Tensor:
    """Updates policy and value from an earlier rollout; returns the divergence of the step."""
    evidence = differentiate(trainer, rollout, behaviour=behaviour)
    _move(trainer, evidence)
    _train_value(trainer, rollout, evidence, more_value_steps)
    return evidence.proposal.kl(evidence.proposal.logits())


def _move(trainer: Trainer, evidence: Evidence) -> None:
    """Moves the policy by one gradient."""
    if trainer.trust_region is None:
        apply(trainer.optimizer, evidence.gradients, evidence.proposal.policy)
    else:
        trainer.trust_region.update(evidence.proposal)


def fit_critic(trainer: Trainer, critic: Critic, *batches: tf.Tensor) -> None:
    """Fits ``c`` to what actions turned out to be worth; see `OffPolicy`.

    Args:
        trainer: a `PolicyGradient`.
        critic: its ``c``.
        *batches: fields of `Memory`, `[updates, batch, ...]`.
    """
    updates = batches[0].shape[0]

    def one(k: tf.Tensor) -> tf.Tensor:
        states, actions, rewards, successors, terminated, returns = [x[k] for x in batches]
        target = returns
        if trainer.value is not None:
            worth = trainer.values(tf.concat([states, successors], axis=0))
            now, after = tf.split(worth, 2)
            target = rewards + trainer.gamma * (1 - terminated) * after - now
        logits = tf.stop_gradient(trainer.logits(states))
        variables = critic.surrogate.trainable_variables
        with tf.GradientTape() as tape:
            error = critic.at(actions, logits, states) - tf.stop_gradient(target)
            loss = tf.reduce_mean(tf.square(error)) + penalty(critic.surrogate)
        apply(trainer.surrogate_optimizer, tape.gradient(loss, variables), variables)
        return k + 1

    tf.while_loop(lambda k: k < updates, one, (tf.constant(0),))


class _Worth(NamedTuple):
    """What the value says of a rollout.

    Attributes:
        values: ``V(s)``, `[steps, trajectories]`.
        returns: what the policy's gradient is made of.
        targets: what the value is regressed on; the same, but for rollouts of other policies.
        gradients: of its error, per variable of its own.
    """

    values: tf.Tensor
    returns: tf.Tensor
    targets: tf.Tensor
    gradients: list[tf.Tensor]


def log_prob(trainer: Trainer, rollout: Rollout) -> tf.Tensor:
    """Returns the policy's log-probability of the actions of a rollout, `[steps, trajectories]`."""
    relaxation, taken = trainer.action_space.relaxation, _rows(rollout.actions)
    draw = Draw(noise=None, z=taken, b=taken)
    logits = tf.stop_gradient(trainer.unrolled_logits(trainer.seen(rollout)))
    each = relaxation.log_prob(logits, draw)
    return tf.reshape(event_sum(each), rollout.rewards.shape)


def _value(trainer: Trainer, rollout: Rollout, ratio: tf.Tensor | None) -> _Worth:
    """Returns ``V(s)``, the returns that it bootstraps, and the gradient of its error."""
    rewards, mask = rollout.rewards, rollout.mask
    gamma, lam = trainer.gamma, trainer.gae_lambda
    if trainer.value is None:
        zero = tf.zeros_like(rewards)
        returns = lambda_returns(rewards, zero, rollout.done, gamma, lam)
        return _Worth(zero, returns, returns, [])
    variables = trainer.value_variables
    with tf.GradientTape() as tape:
        both = trainer.unrolled_values(trainer.seen(rollout), rollout.successors)
        now, after = [tf.reshape(x, rewards.shape) for x in both]
        values = tf.stop_gradient(now)
        after = tf.stop_gradient(after) * (1 - rollout.terminated)
        if ratio is None:
            returns = targets = lambda_returns(rewards, after, rollout.done, gamma, lam)
        else:
            assert trainer.reuse is not None
            found = trainer.reuse(ratio, rewards, values, after, rollout.done, gamma, lam)
            returns, targets = values + found.advantages, found.targets
        loss = tf.reduce_sum(tf.square(targets - now) * mask) / tf.reduce_sum(mask)
        loss += penalty(trainer.value)
    return _Worth(values, returns, targets, tape.gradient(loss, variables))


def _train_value(trainer: Trainer, rollout: Rollout, evidence: Evidence, more_steps: bool) -> None:
    # What it shares with the policy moves with the policy.
    variables = trainer.value_variables
    if not variables:
        return
    apply(trainer.value_optimizer, evidence.value_gradients, variables)
    seen, mask = trainer.seen(rollout), _rows(rollout.mask)
    target = _rows(evidence.returns)

    def again(k: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            error = tf.square(target - trainer.unrolled_values(seen)[0])
            loss = tf.reduce_sum(error * mask) / tf.reduce_sum(mask) + penalty(trainer.value)
        apply(trainer.value_optimizer, tape.gradient(loss, variables), variables)
        return k + 1

    if more_steps:
        one = tf.constant(1, tf.int64)
        tf.while_loop(lambda k: k < trainer.value_steps, again, (one,))


def _variance(proposal: Proposal, x: tf.Tensor) -> tf.Tensor:
    return proposal.mean(tf.square(x - proposal.mean(x)))


def _rows(x: tf.Tensor) -> tf.Tensor:
    """Lays `[steps, trajectories, ...]` one below the other."""
    return tf.reshape(x, [-1, *x.shape[2:]])

"""Policy gradients on Gymnasium environments: REINFORCE, A2C, LAX and RELAX."""

from tf_relax._src.rl.callbacks import PlotCurves, StopOnReward, episodes_to_solve
from tf_relax._src.rl.episode_log import EpisodeLog
from tf_relax._src.rl.evaluating import Evaluate
from tf_relax._src.rl.gradient.estimators import (
    A2C,
    PolicyEstimator,
    PolicyLax,
    PolicyReinforce,
    PolicyRelax,
    get,
)
from tf_relax._src.rl.gradient.linear_advantage import LinearAdvantage
from tf_relax._src.rl.gradient.off_policy import OffPolicy
from tf_relax._src.rl.gradient.v_trace import VTrace
from tf_relax._src.rl.make_trainer import make_trainer
from tf_relax._src.rl.networks import (
    NormalParameters,
    actor_critic,
    convolutional_torso,
    dense_policy,
    dense_value,
)
from tf_relax._src.rl.persistence import load
from tf_relax._src.rl.policy_gradient import PolicyGradient
from tf_relax._src.rl.recurrent_networks import recurrent_policy, recurrent_value
from tf_relax._src.rl.steps.clip import Clip
from tf_relax._src.rl.steps.kl_penalty import KLPenalty
from tf_relax._src.rl.steps.natural_gradient import NaturalGradient
from tf_relax._src.rl.tensorboard_log import TensorBoardLog
from tf_relax._src.rl.world.masked_actions import LegalActions, MaskedActions, masked_policy

__all__ = [
    "A2C",
    "Clip",
    "EpisodeLog",
    "Evaluate",
    "KLPenalty",
    "LegalActions",
    "LinearAdvantage",
    "MaskedActions",
    "NaturalGradient",
    "NormalParameters",
    "OffPolicy",
    "PlotCurves",
    "PolicyEstimator",
    "PolicyGradient",
    "PolicyLax",
    "PolicyReinforce",
    "PolicyRelax",
    "StopOnReward",
    "TensorBoardLog",
    "VTrace",
    "actor_critic",
    "convolutional_torso",
    "dense_policy",
    "dense_value",
    "episodes_to_solve",
    "get",
    "load",
    "make_trainer",
    "masked_policy",
    "recurrent_policy",
    "recurrent_value",
]

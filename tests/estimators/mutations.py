# ruff: noqa: E501 (one mutation a line)
"""Wrong equations, each of which breaks unbiasedness: the proofs have to notice."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import tf_relax.estimators as e
from tf_relax._src import rules
from tf_relax._src.estimators import (
    arms,
    control_variate,
    disarm,
    double_cv,
    exact,
    lax,
    leave_one_out,
    muprop,
    nvil,
    pathwise,
    rodeo,
    score_function,
    surrogate_value,
    vimco,
)
from tf_relax._src.relaxations import bernoulli, normal
from tf_relax._src.training import passes


class Mutation(NamedTuple):
    """One change of one module's source.

    Attributes:
        module: whose source changes.
        right: what it says, exactly once.
        wrong: what it is made to say.
        estimator: where the bias shows, on one Bernoulli unit with an analytic divergence.
        units: number of units.
        kl: the divergence.
        on_normal: whether it shows on a normal unit instead.
        importance_samples: of the objective.
    """

    module: ModuleType
    right: str
    wrong: str
    estimator: e.Estimator
    units: int = 1
    kl: str = "analytic"
    on_normal: bool = False
    importance_samples: int | None = None


RELAX, UNCOUPLED, REBAR, DLAX = e.Relax(), e.Relax(coupled=False), e.Rebar(), e.Dlax()
TWO_Z, TWO_SAMPLES = e.Relax(num_conditional=2), e.Relax(num_samples=2)
PAIR = e.Relax(num_samples=2, coupling="antithetic")
PAIR_OF_Z = e.Relax(num_conditional=2, coupling="antithetic")
LOO, DOUBLE_CV, RODEO, RODEO_3 = e.LeaveOneOut(3), e.DoubleCV(), e.Rodeo(), e.Rodeo(3)
MOVING, LEARNED, NVIL = e.Reinforce("moving_average"), e.Reinforce("learned"), e.Nvil()
ARMS, VIMCO, EXACT = e.Arms(3), e.Vimco(), e.Exact()

# fmt: off
MUTATIONS = {
    # RELAX and REBAR
    "c(z~) added": Mutation(control_variate, "one.f - c_tilde", "one.f + c_tilde", RELAX),
    "score term subtracted": Mutation(rules, "return score_function(relaxation, a, draw, signal) + path", "return path - score_function(relaxation, a, draw, signal)", RELAX),
    "pathwise term subtracted": Mutation(rules, "signal) + path", "signal) - path", RELAX),
    "pathwise term left out": Mutation(rules, "signal) + path", "signal)", RELAX),
    "dc(z)/da forgotten": Mutation(rules, "path = relaxation.vjp", "path = 0 * relaxation.vjp", UNCOUPLED),
    "dc(z~)/da added": Mutation(rules, "path - relaxation.conditional_vjp", "path + relaxation.conditional_vjp", UNCOUPLED),
    "dc(z~)/da forgotten": Mutation(rules, "conditional_vjp(a, draw, z_tilde, h_tilde)", "conditional_vjp(a, draw, z_tilde, 0 * h_tilde)", UNCOUPLED),
    "several z~ summed in c": Mutation(control_variate, "c_mean[k] / count", "c_mean[k]", TWO_Z),
    "several z~ summed in dc": Mutation(control_variate, "path_mean[k] / count", "path_mean[k]", TWO_Z),
    "derivative of z~ at z": Mutation(control_variate, "draw._replace(z=z[k])", "draw", TWO_Z),
    "z beside antithetic samples of z given b": Mutation(control_variate, "[*own[k], *site.z_tildes][m]", "[site.z, 2 * site.logits - site.z][m]", PAIR_OF_Z),
    "several samples summed": Mutation(control_variate, "g / len(passes)", "g", TWO_SAMPLES),
    "own sample in the mean of the others of RELAX": Mutation(rules, "if j != k]) / (len(x) - 1)", "]) / len(x)", TWO_SAMPLES),
    "z of the one antithetic sample with b of the other": Mutation(control_variate, "own = [[site.z]", "own = [[2 * site.logits - site.z]", PAIR),
    "score of the one antithetic sample with the signal of the other": Mutation(control_variate, "rules.relax(*sampled(site), signal[k]", "rules.relax(*sampled(site), signal[-1 - k]", PAIR),
    "an antithetic sample as baseline": Mutation(control_variate, "self.against_others(sites, [", "rules.leave_one_out([", PAIR),
    "scale of dc/dz forgotten": Mutation(surrogate_value, "h += site.state.scale * h_objective[k]", "h += h_objective[k]", REBAR),
    "sign of the objective in dc/dz": Mutation(surrogate_value, "h += site.state.scale * h_objective[k]", "h -= site.state.scale * h_objective[k]", REBAR),
    "sign of the network in dc/dz": Mutation(surrogate_value, "h += dr", "h -= dr", RELAX),
    # Bernoulli units
    "score negated": Mutation(bernoulli, "return s * tf.sigmoid(-s * a)  #", "return -s * tf.sigmoid(-s * a)  #", RELAX),
    "score of the other value": Mutation(bernoulli, "return s * tf.sigmoid(-s * a)  #", "return s * tf.sigmoid(s * a)  #", RELAX),
    "coupled derivative, sign": Mutation(bernoulli, "+ tf.sigmoid(s * a) * tf.exp", "- tf.sigmoid(s * a) * tf.exp", RELAX),
    "coupled derivative, side": Mutation(bernoulli, "(tf.sigmoid(-s * a) + tf.sigmoid(s * a)", "(tf.sigmoid(s * a) + tf.sigmoid(-s * a)", RELAX),
    "coupled derivative, exponent": Mutation(bernoulli, "tf.exp(-tf.abs(draw.z))", "tf.exp(-2 * tf.abs(draw.z))", RELAX),
    "conditional derivative, sign": Mutation(bernoulli, "-tf.sigmoid(s * a) * tf.math.expm1", "tf.sigmoid(s * a) * tf.math.expm1", UNCOUPLED),
    "conditional sample, side": Mutation(bernoulli, "s * tf.nn.softplus(noise", "-s * tf.nn.softplus(noise", UNCOUPLED),
    "conditional sample, inner sign": Mutation(bernoulli, "tf.nn.softplus(s * a))", "tf.nn.softplus(-s * a))", UNCOUPLED),
    "score of z": Mutation(bernoulli, "tf.tanh(draw.noise / 2)", "tf.tanh(draw.noise)", DLAX),
    "derivative of the mean": Mutation(bernoulli, "mean * (1 - mean) * h", "mean * h", DOUBLE_CV),
    # DLAX, LAX and the reparameterisation
    "score of b in place of that of z": Mutation(rules, "relaxation.relaxed_score(a, draw)", "relaxation.score(a, draw)", DLAX),
    "c(z) added": Mutation(rules, "g -= times(c", "g += times(c", DLAX),
    "pathwise part of DLAX subtracted": Mutation(rules, "g + relaxation.vjp", "g - relaxation.vjp", DLAX),
    "pathwise part of LAX subtracted": Mutation(rules, "signal) + relaxation.vjp", "signal) - relaxation.vjp", e.Lax(), on_normal=True),
    "pathwise part of LAX left out": Mutation(rules, "signal) + relaxation.vjp", "signal) + 0 * relaxation.vjp", e.Lax(), on_normal=True),
    "normal score without its -1": Mutation(normal, "tf.square(eps) - 1", "tf.square(eps)", e.Reinforce(), on_normal=True),
    "normal score of the mean": Mutation(normal, "eps * tf.exp(-log_scale)", "eps", e.Reinforce(), on_normal=True),
    "derivative in the scale, sign": Mutation(normal, "h * tf.exp(log_scale) * draw", "-h * tf.exp(log_scale) * draw", e.Lax(), on_normal=True),
    "sample held constant": Mutation(pathwise, "return site.layer.as_output(site.draw)", "return tf.stop_gradient(site.layer.as_output(site.draw))", e.Reparameterization(), on_normal=True),
    "several samples of DLAX summed": Mutation(lax, "g / len(passes)", "g", e.Dlax(num_samples=2)),
    "z of another sample in DLAX": Mutation(lax, "sampled(site), *term) for site, *term in terms]\n\n\n", "sampled(sites[0]), *term) for site, *term in terms]\n\n\n", e.Dlax(**{"num_samples": 2, "coupling": "antithetic"})),
    # Score function with a baseline
    "baseline leaks": Mutation(score_function, "rules.score_function(*sampled(site), signal)", "rules.score_function(*sampled(site), f) - beta", MOVING),
    "learned baseline sees the sample": Mutation(score_function, "tf.zeros_like(site.z)", "site.b", LEARNED),
    "running mean of this step": Mutation(nvil, "m, v = site.state.mean.value,", "m, v = 0.99 * site.state.mean.value + 0.01 * f,", NVIL),
    "scaled by its deviation": Mutation(nvil, "if self.normalize", "if True", NVIL),
    "network of the sample": Mutation(score_function, "tf.zeros_like(site.z)", "site.b", NVIL),
    "own sample in the mean of the others": Mutation(rules, "if j != k]) / (len(x) - 1)", "]) / len(x)", LOO),
    "samples summed": Mutation(leave_one_out, "signal) / len(passes)", "signal)", LOO),
    "objectives summed": Mutation(passes, "tf.add_n(objectives) / len(objectives)", "tf.add_n(objectives)", LOO),
    # MuProp
    "no Taylor correction": Mutation(muprop, "one.f - f_mu - one.signal(linear)", "one.f - f_mu", e.MuProp()),
    "Taylor correction, sign": Mutation(muprop, "- one.signal(linear)", "+ one.signal(linear)", e.MuProp(), units=2),
    "no derivative at the mean": Mutation(muprop, "signal) + p", "signal)", e.MuProp(), units=2),
    "linear term doubled": Mutation(rules, "slope * (b - mean)", "slope * (2 * b - mean)", e.MuProp(), units=2),
    # Double control variates
    "expected control variate added": Mutation(double_cv, "- site.state.alpha * expected", "+ site.state.alpha * expected", DOUBLE_CV),
    "expected control variate left out": Mutation(double_cv, "- site.state.alpha * expected", "", DOUBLE_CV, units=2),
    "derivative at the own sample": Mutation(double_cv, "rules.mean_of_others(site_derivatives)", "list(site_derivatives)", DOUBLE_CV),
    "control variate left out of the signal": Mutation(double_cv, "f_k + c_k for", "f_k for", DOUBLE_CV, units=2),
    # RODEO
    "probability of the own value": Mutation(rodeo, "w = _flat(tf.abs(score(site)))", "w = 1 - _flat(tf.abs(score(site)))", RODEO),
    "w_i doubled inside": Mutation(rodeo, "w = _flat(tf.abs(score(site)))", "w = 2 * _flat(tf.abs(score(site)))", RODEO),
    "w_i wrong in the changed factor": Mutation(rodeo, "w, size = tf.abs(s)", "w, size = 1 - tf.abs(s)", RODEO),
    "changed factor not averaged": Mutation(rodeo, "g_flipped / size", "g_flipped", RODEO, units=2),
    "changed factor left out": Mutation(rodeo, "[:, tf.newaxis] + own", "[:, tf.newaxis]", RODEO),
    "own sample in h and g": Mutation(rodeo, "if j != k:", "if True:", RODEO_3),
    "own sample in the baseline": Mutation(rodeo, "baselines = rules.mean_of_others(inner)", "baselines = [tf.add_n(inner) / len(inner)] * len(inner)", RODEO),
    "flips in the wrong direction": Mutation(rodeo, "slope + (1 - 2 * b) * derivative", "slope - (1 - 2 * b) * derivative", RODEO),
    # Antithetic samples
    "no sigmoid(|a|)": Mutation(disarm, " * tf.sigmoid(tf.abs(a))", "", e.Disarm()),
    "sigmoid(a)": Mutation(disarm, "tf.sigmoid(tf.abs(a))", "tf.sigmoid(-a)", e.Disarm()),
    "pair not halved": Mutation(disarm, "weight) / 2", "weight)", e.Disarm()),
    "difference, sign": Mutation(disarm, "one.f - one.signal", "one.signal(one.objective) + one.signal", e.Disarm()),
    "pair not antithetic": Mutation(disarm, "-noises[0]]", "noises[1]]", e.Disarm()),
    "both divergences counted": Mutation(disarm, "(0.5, objective)", "(1.0, objective)", e.Disarm()),
    "no correction of the correlation": Mutation(arms, " / self._decorrelation(a)", "", ARMS),
    "correlation without its overlap": Mutation(arms, "(1 - both_given_one) /", "1 /", ARMS),
    "mean over K": Mutation(arms, "(len(f) - 1)", "len(f)", ARMS),
    "arms without their mean": Mutation(arms, "draw, f_k - f_mean)", "draw, f_k)", ARMS),
    # Importance-weighted bound
    "own weight in the baseline": Mutation(vimco, "rules.mean_of_others(log_w)", "log_w", VIMCO, importance_samples=2),
    "own weight in the mean": Mutation(vimco, "rules.mean_of_others(log_w)", "[tf.add_n(log_w) / len(log_w)] * len(log_w)", VIMCO, importance_samples=3),
    "bound maximised": Mutation(vimco, "without - bound", "bound - without", VIMCO, importance_samples=2),
    "objective of one sample": Mutation(score_function, "f, errors = passes.f", "f, errors = passes[0].f", e.Reinforce(), importance_samples=2),
    # Enumeration
    "not weighted": Mutation(exact, "p_b * (other.f - f_mean)", "other.f - f_mean", EXACT),
    "objectives not weighted": Mutation(exact, "(p_b, other.objective)", "(0.5 + 0 * p_b, other.objective)", EXACT, kl="sampled"),
}
# fmt: on

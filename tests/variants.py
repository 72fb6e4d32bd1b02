"""What `make test` keeps of tests that prove the same of many variants.

Tracing a graph takes a second or more, whatever is computed, so variants are what the suite's time
goes into. Of the tests named here it runs the variants that differ most; the others are marked as
slow and run in `make test-slow`. New variants of these tests are slow until they are named.
"""

import re

import pytest

GRAPH, EAGER = "graph", "eager"

# Test: regular expressions, one of which is found in the names of the variants that are kept.
KEPT: dict[str, list[str]] = {
    # One family of each kind of equation, and one of trees, whose graphs are the largest.
    "estimators/test_families.py::test_relax": [
        "categorical-coupled",
        "plackett_luce-coupled",
        "stick_breaking-coupled",
        "top_2_of_5-independent",
        "matching-coupled",
        "adjacency-coupled",
    ],
    "estimators/test_families.py::test_a_wrong_equation_shows": [
        "categorical",
        "plackett_luce",
        "adjacency",
    ],
    "estimators/test_families.py::test_other_estimators": ["Dlax", "LeaveOneOut"],
    "estimators/test_families.py::test_layers_of_mixed_kinds": [
        "num_samples=1.*sequential",
        "LeaveOneOut.*parallel",
    ],
    "estimators/test_layers_unbiased.py::test_every_weight": [
        "Vimco",
        "DoubleCV",
        "MuProp",
        "Disarm",
        "Nvil",
        "LeaveOneOut.num_samples=2",
    ],
    "estimators/test_layers_unbiased.py::test_through_batch_norm_and_dropout": [
        r"^Relax\(coupled=True, num_samples=1, num_conditional=1\)",
        r"^Rebar\(coupled=False",
    ],
    "estimators/test_layers_unbiased.py::test_every_weight_within_its_standard_error": [
        "Rebar",
        r"Arms\(num_samples=3\)",
    ],
    "estimators/test_layers_unbiased.py::test_parallel_layers": ["Disarm", "Vimco"],
    "estimators/test_encoder_cost.py::test_encoder_runs_once": [
        "Relax.*-1$",
        "Vimco.*-2$",
        "LeaveOneOut.*-2$",
        "MuProp.*-2$",
        "Exact.*-1$",
        "Rodeo.*-1$",
    ],
    "estimators/test_unbiased.py::test_one_bernoulli_compiled": [
        r"^Relax\(coupled=True, num_samples=1, num_conditional=1\)",
        "Disarm",
        "Vimco",
        "Rodeo",
        "MuProp",
    ],
    "estimators/test_batch_coupling.py::test_unbiased_through_batch_norm_of_samples": [
        "Rebar",
        "Reinforce",
    ],
    "layers/test_masks.py::test_relax": ["plackett_luce", "matching", "top_k", "categorical"],
    "layers/test_masks.py::test_independent_relax": ["top_k"],
    "layers/test_masks.py::test_ruled_out_items_might_as_well_not_exist": [
        "categorical-float32.min",
        "plackett_luce-mask",
        "top_k--inf",
    ],
    "layers/test_impossible.py::test_training_with_infinite_logits": [
        "bernoulli-relax-float32",
        "categorical-relax-mixed_float16",
        "plackett_luce-rebar-float32",
        "top_k-nvil-mixed_float16",
    ],
    "layers/test_nan.py::test_every_layer": [
        "bernoulli",
        "categorical",
        "top_2_of_5",
        "matching",
        "spanning_tree",
        "sample",
        "index",
    ],
    "layers/test_nan.py::test_training_stops_at_the_first_batch": ["relax", "nvil", "reinmax"],
    "layers/test_families.py::test_trains_and_is_saved_with_its_model": [
        "categorical",
        "plackett_luce",
        "matching",
        "spanning_tree",
        "rounding",
        "sticks",
    ],
    "layers/test_relax_sample.py::test_continuous_samples": ["gamma", "dirichlet-lax"],
    "layers/test_relax_sample.py::test_matchings_of_two": ["Sinkhorn-dlax", "Rounding-reinforce"],
    "layers/test_relax_normal.py::test_what_estimators_train_beside_the_model": [EAGER, "lax-sum"],
    "losses/test_losses.py::test_evaluations_of_a_black_box": [EAGER, "^relax", "disarm"],
    "relaxations/test_families.py::test_compiled": [
        "graph-",
        "XLA-plackett_luce",
        "XLA-top_2",
        "XLA-adjacency",
    ],
    "surrogates/test_surrogates.py::test_surrogate_that_looks_at_the_targets_trains": [
        EAGER,
        "network-graph",
    ],
    "training/test_relax_model.py::test_every_estimator_trains_its_own_variables_in_graph_mode": [
        "^relax",
        "rodeo",
        "nvil",
        "reinforce",
    ],
    "training/test_relax_model.py::test_estimators_are_saved_with_all_that_they_learn": [
        "Vimco",
        "Rodeo",
        "Nvil",
        "learned",
    ],
    "training/test_relax_model.py::test_every_style_is_saved_and_loaded_in_one_process": [
        "^functional$",
        "^sequential$",
        "subclassed_positional",
        "builds_itself$",
    ],
    "training/test_relax_model.py::test_styles_do_not_touch_one_another": [
        "^.0, 1, 2, 3",
        "^.1, 0, 3, 2",
        "^.2, 3, 1, 0",
        "^.3, 2, 0, 1",
        "^.3, 0, 2, 1",
        "^.1, 3, 0, 2",
    ],
    "training/test_relax_model.py::test_policies_train": [
        "eager-float64",
        "eager-mixed_bfloat16",
        "graph-mixed_float16",
    ],
    "training/test_relax_model.py::test_several_steps_per_execution_equal_single_ones": ["2"],
    "training/test_keras_habits.py::test_optional_inputs": [
        "eagerly.*last",
        "eagerly.*first",
        "False.*dict",
    ],
    "training/test_keras_habits.py::test_pickle": ["subclass", "builds_itself$", "^functional$"],
    "training/test_objective.py::test_replay_at_the_recorded_samples_repeats_the_recorded_pass": [
        EAGER,
        "chain",
        "dropout",
    ],
    "training/test_objective.py::test_passes_on_the_recorded_samples_repeat_the_recorded_pass": [
        EAGER,
        "chain",
        "dropout",
    ],
    "callbacks/test_gradient_variance.py::test_training_does_not_notice": [
        "options0",
        "options3",
    ],
    "examples/test_binary_vae.py::test_models": ["linear1"],
    "examples/test_binary_vae.py::test_estimators": ["disarm"],
    "examples/test_jigsaw.py::test_main": [r"^\[\]$"],
    "examples/test_graph_structure.py::test_command_prints_a_table_and_draws_a_figure": [
        "edges",
        "spanning_tree",
    ],
    "rl/test_schedulable.py::test_a_change_is_that_of_a_trainer_made_with_it": [
        "clip-epsilon",
        "kl-steps",
        "None-gae_lambda-None",
        "None-entropy",
    ],
    "rl/test_architectures.py::test_several_trajectories": ["False", "True-convolutional"],
    "rl/test_architectures.py::test_trust_regions_of_recurrent_policies": ["KLPenalty", "Clip"],
    "rl/test_architectures.py::test_regularizers_of_the_policy": ["none", "kernel"],
    "rl/test_unbiased.py::test_surrogate_gradient_is_that_of_the_squared_gradient_per_trajectory": [
        "-1$",
        "^relax-5",
        "^lax-5",
    ],
    "rl/test_collector.py::test_lengths_and_gradients_have_the_right_means": ["4-8"],
    "rl/test_persistence.py::test_everything_is_saved": ["^lax", "off-policy", "surrogate"],
    "rl/test_environments.py::test_ctrl_c_reaches_processes": ["function"],
    "test_updates.py::test_no_graph_outlives_its_model": [
        "^fitted$",
        "audited",
        "loss_that_knows",
        "policy_with_a_surrogate",
        "clipped",
    ],
    "training/test_keras_habits.py::test_ragged_inputs": [
        "jit_compile",
    ],
    "training/test_keras_habits.py::test_rows_that_are_looked_up_train_as_in_a_product": [
        "sgd",
        "clipnorm-gather",
    ],
    "training/test_regularizers.py::test_fit_equals_plain_keras_where_samples_do_not_matter": [
        EAGER,
        GRAPH,
    ],
    "training/test_relax_model.py::test_every_style_trains_every_variable": [
        "^functional$",
        "^sequential",
        "^subclassed$",
        "without_training",
        "builds_itself$",
    ],
    "training/test_relax_model.py::test_history_shows_what_evaluate_shows": [
        "arguments0",
        "False-arguments1",
    ],
    "layers/test_families.py::test_sampled_divergence_in_expectation": [
        "learned",
    ],
    "rl/test_trust_region.py::test_a_natural_step_uses_up_its_divergence": [
        "0.01",
    ],
    "rl/test_architectures.py::test_a_variable_that_is_not_used": [
        "natural-relax",
        "kl-a2c",
        "none",
        "clip",
    ],
    "estimators/test_architectures.py::test_encoders_train": [
        "GRU",
    ],
    "estimators/test_architectures.py::test_encoders": [
        "GRU",
        "convolution",
    ],
    "estimators/test_mixed_levels.py::test_what_the_network_predicts_need_not_be_differentiable": [
        "rounded",
    ],
    "test_bad_input.py::test_unrolled_recurrent_loop_works": [
        EAGER,
    ],
    "test_bad_input.py::test_black_box_of_the_wrong_shape": [
        EAGER,
        "column",
    ],
    "test_bad_input.py::test_estimator_and_layer_that_do_not_go_together": [
        EAGER,
        "Bernoulli.*graph",
    ],
    "rl/test_objective.py::test_the_size_of_the_gradient_does_not_grow_with_the_steps": [
        "a2c",
    ],
    "layers/test_families_bad_input.py::test_estimators_of_binary_units": [
        "arms",
        "disarm",
    ],
    "surrogates/test_surrogates.py::test_keras_model_trains_as_a_surrogate": [
        EAGER,
        "context-graph",
    ],
    "surrogates/test_surrogates.py::test_surrogate_of_the_user_gets_what_it_declares": [
        EAGER,
        "alone",
    ],
    "layers/test_relax_sample.py::test_discrete_samples": [
        "poisson",
        "reinforce",
    ],
}


def mark(items: list[pytest.Item], tests, whole_files: bool) -> None:
    """Marks the variants that are not kept as slow.

    Args:
        items: Collected tests.
        tests: The folder of all tests, a path.
        whole_files: Whether no test was asked for by its name.

    Raises:
        pytest.UsageError: An entry names no test of a file that was collected, or a variant that
            the test does not have.
    """
    found: dict[str, list[str]] = {}
    files = set()
    for item in items:
        file = item.path.relative_to(tests).as_posix()
        files.add(file)
        name = f"{file}::{item.originalname}"
        if name in KEPT:
            variant = item.callspec.id
            found.setdefault(name, []).append(variant)
            if not any(re.search(pattern, variant) for pattern in KEPT[name]):
                item.add_marker(pytest.mark.slow)
    if not whole_files:
        return
    for name, patterns in KEPT.items():
        if name.split("::")[0] in files:
            variants = found.get(name, [])
            unused = [p for p in patterns if not any(re.search(p, v) for v in variants)]
            if unused:
                raise pytest.UsageError(f"tests/variants.py keeps {unused} of {name}: {variants}")

"""Variants of tests that `make test` leaves to `make test-slow`.

Tracing a graph takes a second or more, whatever is computed, so variants are what the suite's time
goes into. Left out are those that differ least from one that stays, and the largest graphs: of
estimators, the proof on one unit in eager code stays for every one. A new variant runs in
`make test` until it is named here.
"""

import pathlib
import re

import pytest

# Test: regular expressions, each found in the names of variants that are left out.
SLOW: dict[str, list[str]] = {
    "bad_input/test_black_boxes.py::test_black_box_of_the_wrong_shape": [
        "(scalar|elements|too_few)-graph"
    ],
    "bad_input/test_where_samples_hide.py::test_unrolled_recurrent_loop_works": ["graph"],
    "bad_input/test_wrong_couples.py::test_estimator_and_layer_that_do_not_go_together": [
        "RelaxNormal.*graph"
    ],
    "callbacks/test_gradient_variance.py::test_training_does_not_notice": ["options[123]"],
    "estimators/test_architectures.py::test_encoders": ["LSTM"],
    "estimators/test_architectures.py::test_encoders_train": ["LSTM", "convolution"],
    "estimators/test_batch_coupling.py::test_unbiased_through_batch_norm_of_samples": ["Relax"],
    "estimators/test_counts.py::test_trains_and_is_saved": ["leave_one_out"],
    "estimators/test_disarm_tree.py::test_two_layers": ["disarm_tree"],
    "estimators/test_encoder_cost.py::test_encoder_runs_once": [
        "(Relax|Rodeo|Exact).*-2$",
        "(MuProp|LeaveOneOut|Vimco).*-1$",
        "DoubleCV|Disarm|Arms",
    ],
    "estimators/test_families.py::test_a_wrong_equation_shows": [
        "stick_breaking|matching|ordered",
        "spanning_tree|arborescence|sparse",
    ],
    "estimators/test_families.py::test_layers_of_mixed_kinds": [
        "Relax.*parallel",
        r"Relax\(num_samples=2",
        "LeaveOneOut.*sequential",
    ],
    "estimators/test_choices.py::test_two_layers": ["parallel", "num_samples=3"],
    "estimators/test_choices.py::test_several_choices_of_an_example": ["3"],
    "estimators/test_families.py::test_antithetic_relax": [
        "matching|spanning_tree|arborescence|sparse|adjacency|ordered|blocks",
    ],
    "estimators/test_families.py::test_other_estimators": ["Rebar|Relax", r"Dlax\(num_samples=2\)"],
    "estimators/test_families.py::test_relax": ["independent", "arborescence|sparse", "ordered"],
    "estimators/test_hierarchies.py::test_relax": [
        "categorical|sticks|stick_breaking|matching|ordered|adjacency",
        "plackett_luce|place_index|set_index|arborescence",
    ],
    "estimators/test_layers_unbiased.py::test_every_weight": [
        r"Rodeo\(num_samples=3|Exact|LeaveOneOut\(num_samples=3",
    ],
    "estimators/test_layers_unbiased.py::test_every_weight_within_its_standard_error": [
        "Relax",
        r"Arms\(\)",
    ],
    "estimators/test_per_layer.py::test_every_weight_within_its_standard_error": [
        "(Relax|rebar|Arms).*True",
        "(objective|LeaveOneOut|Arms|rebar).*False",
    ],
    "estimators/test_per_layer.py::test_every_weight": ["(MuProp|DoubleCV).*True", "Reinf.*False"],
    "estimators/test_layers_unbiased.py::test_parallel_layers": ["MuProp|Rodeo"],
    "estimators/test_layers_unbiased.py::test_through_batch_norm_and_dropout": [
        "num_conditional=2",
        r"Relax\(coupled=False|Rebar\((?!coupled)",
        "Dlax",
    ],
    "estimators/test_mixed_levels.py::test_what_is_not_asked_for_need_not_exist": ["resized"],
    "estimators/test_unbiased.py::test_one_bernoulli_compiled": [
        "num_conditional=2|Rebar|Dlax|Reinforce",
        "Nvil|LeaveOneOut|DoubleCV|Exact|Arms",
    ],
    "examples/test_binary_vae.py::test_models": ["linear2", "nonlinear"],
    "examples/test_graph_structure.py::test_command_prints_a_table_and_draws_a_figure": [
        "arborescence"
    ],
    "examples/test_jigsaw.py::test_main": ["dlax"],
    "layers/test_family_divergences.py::test_sampled_divergence_in_expectation": ["uniform|logits"],
    "layers/test_families.py::test_trains_and_is_saved_with_its_model": [
        "stick_breaking|top_2|gumbel",
        "adjacency|arborescence|sparse",
    ],
    "layers/test_families_bad_input.py::test_estimators_of_binary_units": ["double_cv|rodeo"],
    "layers/test_impossible.py::test_training_with_infinite_logits": [
        "(bernoulli|top_k|sticks|plackett_luce)-relax-mixed",
        "plackett_luce-(relax|rebar)-float32|categorical-rebar|bernoulli-nvil",
    ],
    "layers/test_masks.py::test_independent_relax": [
        "categorical|plackett_luce|matching|spanning_tree|arborescence"
    ],
    "layers/test_masks.py::test_relax": ["spanning_tree|arborescence"],
    "layers/test_masks.py::test_ruled_out_items_might_as_well_not_exist": [
        "categorical-(mask|-inf)",
        "top_k-(mask|float32)",
        "plackett_luce-(-inf|float32)",
    ],
    "layers/test_nan.py::test_every_layer": [
        "normal|sinkhorn|stick|plackett_luce|adjacency|arborescence|sparse"
    ],
    "layers/test_nan.py::test_training_stops_at_the_first_batch": [
        "straight|rebar|leave_one_out|arms|muprop|concrete|exact"
    ],
    "layers/test_priors.py::test_a_learned_prior_is_fitted": [
        "reinforce",
        "reparameterization-sample|lax-normal",
    ],
    "layers/test_relax_normal.py::test_what_estimators_train_beside_the_model": [
        "(network|objective).*graph",
        "(reinforce|leave_one_out|reparameterization).*graph",
    ],
    "layers/test_relax_sample.py::test_continuous_samples": [
        "normal|laplace|beta",
        "dirichlet-re",
    ],
    "layers/test_relax_sample.py::test_discrete_samples": ["(categorical|bernoulli)-(leave|nvil)"],
    "layers/test_relax_sample.py::test_matchings_of_two": ["Sinkhorn-reinforce", "Rounding-dlax"],
    "losses/test_losses.py::test_evaluations_of_a_black_box": [
        "(Relax|dlax|nvil|Reinforce|leave_one_out|Arms).*graph"
    ],
    "relaxations/test_families.py::test_compiled": [
        "XLA-(categorical|stick|matching|ordered)",
        "XLA-(spanning_tree|arborescence|sparse|blocks)",
    ],
    "relaxations/test_second_derivatives.py::test_float32_agrees_with_float64": [
        "(matching|stick_breaking|ordered_.*|spanning_tree|adjacency|arborescence|sparse)-",
    ],
    "rl/test_architectures.py::test_a_variable_that_is_not_used": ["kl", "natural-a2c", "clip"],
    "rl/test_architectures.py::test_regularizers_of_the_policy": ["(activity|add_loss)-clip"],
    "rl/test_architectures.py::test_several_trajectories": ["True-recurrent"],
    "rl/test_architectures.py::test_trust_regions_of_recurrent_policies": [
        "NaturalGradient|KLPenalty"
    ],
    "rl/test_collector.py::test_lengths_and_gradients_have_the_right_means": ["8-8"],
    "rl/test_processes.py::test_ctrl_c_reaches_processes": ["given"],
    "rl/test_faults.py::test_an_environment_that_fails_in_an_episode": ["n_steps", "nan reward"],
    "rl/test_objective.py::test_the_size_of_the_gradient_does_not_grow_with_the_steps": ["relax"],
    "rl/test_persistence.py::test_everything_is_saved": ["clip", "keras model"],
    "rl/test_schedulable.py::test_a_change_is_that_of_a_trainer_made_with_it": [
        "gamma|gae_lambda-0|value_steps",
        "clip-e(ntropy|pochs)|kl-target|natural",
    ],
    "rl/test_trust_region.py::test_a_natural_step_uses_up_its_divergence": ["0.001"],
    "rl/test_unbiased.py::test_surrogate_gradient_is_that_of_the_squared_gradient_per_trajectory": [
        "(uncoupled|linear|lax_value)-5"
    ],
    "surrogates/test_keras_model.py::test_keras_model_trains_as_a_surrogate": ["(z|logits)-graph"],
    "surrogates/test_looks_at.py::test_surrogate_of_the_user_gets_what_it_declares": ["sum-graph"],
    "surrogates/test_looks_at.py::test_surrogate_that_looks_at_the_targets_trains": [
        "(keras_model|sum)-graph"
    ],
    "test_updates.py::test_no_graph_outlives_its_model": [
        "float16|observed|reinmax|^policy$|penalised"
    ],
    "training/test_inputs.py::test_optional_inputs": [
        "eagerly.*(dict|first)",
        "jit.*(first|last)",
    ],
    "training/test_inputs.py::test_ragged_inputs": ["eagerly"],
    "training/test_lookups.py::test_rows_that_are_looked_up_train_as_in_a_product": [
        "clipnorm-embedding|accumulation"
    ],
    "training/test_pickle.py::test_pickle": ["^sequential$", "sequentially", "functional_"],
    "training/test_precision.py::test_policies_train": [
        "eager-mixed_float16",
        "graph-(mixed_bfloat16|float64)",
    ],
    "training/test_regularizers.py::test_fit_equals_plain_keras_where_samples_do_not_matter": [
        "xla"
    ],
    "training/test_replays.py::test_passes_on_the_recorded_samples_repeat_the_recorded_pass": [
        "(side_by_side|shared|batch_statistics)-graph"
    ],
    "training/test_replays.py::test_replay_at_the_recorded_samples_repeats_the_recorded_pass": [
        "(side_by_side|shared|batch_statistics)-graph"
    ],
    "training/test_saving.py::test_estimators_are_saved_with_all_that_they_learn": [
        "DoubleCV|Relax|Arms|LeaveOneOut|MuProp|Exact"
    ],
    "training/test_saving.py::test_every_style_is_saved_and_loaded_in_one_process": [
        "functional|sequential|subclassed$|without_training|itself_positional"
    ],
    "training/test_styles.py::test_every_style_trains_every_variable": [
        "positional|functional_subclass"
    ],
    # Half of the orders.
    "training/test_styles.py::test_styles_do_not_touch_one_another": [
        r"\((0, 2|0, 3|1, 2|2, 0|2, 1|3, 1)"
    ],
    "training/test_training_loop.py::test_history_shows_what_evaluate_shows": ["True-arguments1"],
    "training/test_training_loop.py::test_several_steps_per_execution_equal_single_ones": ["3"],
    "training/test_ways_to_run.py::test_every_estimator_trains_its_own_variables_in_graph_mode": [
        "rebar|dlax|double_cv|concrete|straight|leave_one_out|disarm"
    ],
}


def mark(items: list[pytest.Item], tests: pathlib.Path, whole_files: bool) -> None:
    """Marks the variants that are left out as slow.

    Args:
        items: Collected tests.
        tests: The folder of all tests.
        whole_files: Whether no test was asked for by its name.

    Raises:
        pytest.UsageError: An entry leaves out nothing, or all, of a test in a file that was
            collected.
    """
    found: dict[str, list[str]] = {}
    files = set()
    for item in items:
        file = item.path.relative_to(tests).as_posix()
        files.add(file)
        name = f"{file}::{item.originalname}"
        if name in SLOW:
            variant = item.callspec.id
            found.setdefault(name, []).append(variant)
            if any(re.search(pattern, variant) for pattern in SLOW[name]):
                item.add_marker(pytest.mark.slow)
    if not whole_files:
        return
    for name, patterns in SLOW.items():
        if name.split("::")[0] in files:
            variants = found.get(name, [])
            unused = [p for p in patterns if not any(re.search(p, v) for v in variants)]
            rest = [v for v in variants if not any(re.search(p, v) for p in patterns)]
            if unused or not rest:
                raise pytest.UsageError(
                    f"tests/variants.py: {name} has no variant like {unused}, or none stays: "
                    f"{variants}"
                )

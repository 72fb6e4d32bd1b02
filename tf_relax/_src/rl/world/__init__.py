"""Where a policy acts: environments, actions, rollouts."""

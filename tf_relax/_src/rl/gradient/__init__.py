"""What gradient the policy follows: estimators, surrogates of actions, returns."""

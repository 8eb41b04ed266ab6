"""Pure decisions: findings of the checks and the policy that turns them into an action. No web framework."""

"""Reinforcement learning: rewards, rollouts, advantages and losses, pure wherever no model is needed."""

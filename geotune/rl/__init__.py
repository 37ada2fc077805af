"""Reinforcement learning: rewards, advantages and losses, pure wherever no model is needed."""

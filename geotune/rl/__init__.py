"""The parts of reinforcement learning: rewards and the kernels of distance behind them."""

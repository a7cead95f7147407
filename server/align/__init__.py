"""The central node: prompts, reward ensemble, roll-out, PPO."""

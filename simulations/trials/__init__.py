"""PPO tried out beside a run's own, on that run's reward: does it learn from every seed, and can the reward be hacked?"""

"""The published experiments as tables of jobs: each job done once, one report per table. Needs PyTorch."""

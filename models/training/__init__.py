"""From batches to weights: devices, losses, optimizers, the loop and its checkpoints.

May import `networks` and `metrics`.
"""

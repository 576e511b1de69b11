"""What becomes of a picture: one chain of random changes, keyed by seed and position.

May import `records` and `randomness`.
"""

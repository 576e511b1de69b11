"""Which row stands at which position of the stream, and how much it counts.

May import `records` and `randomness`.
"""

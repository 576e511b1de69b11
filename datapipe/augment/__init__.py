"""What becomes of a picture: one chain of random changes, keyed by seed and position.

A new augmentation is a class in a file of its own (see `augmentation`), its options in `options`
and its place in `chain.STAGES`.

May import `records` and `randomness`.
"""

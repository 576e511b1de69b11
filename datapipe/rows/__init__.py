"""Where the rows of a split are kept, and how a batch of them is gathered.

May import `records`, `randomness`, `augment` and `plan`.
"""

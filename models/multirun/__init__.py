"""More than one run: repeats, folds, sweeps, comparisons.

May import the rooms up to `reporting`.
"""

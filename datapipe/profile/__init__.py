"""Where the time of a training goes, and the one change to make.

May import every other room but `preview` and `benchmark`.
"""

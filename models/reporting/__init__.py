"""Predictions of a split, what is wrong with them, and the report.

May import `networks`, `metrics` and `training`.
"""

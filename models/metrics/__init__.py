"""Scores of predictions, with intervals and chance levels.

May import `records` and `datapipe`.
"""

"""Scores of predictions, with their intervals and what chance would give.

May import `records` and `datapipe`.
"""

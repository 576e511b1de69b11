"""Assigns images to splits and folds.

May import `common`, `image` and `format`.
"""

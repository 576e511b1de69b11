"""A trained run applied to new files, and exported as a SavedModel.

May import the rooms up to `reporting`.
"""

"""A trained run on new files, and as a SavedModel for elsewhere.

May import the rooms up to `reporting`.
"""

"""Checks of a record set: damage, duplicates and leakage, differences from another set.

May import the rooms up to `source`.
"""

"""Photographs among drawings, or the other way round, found without labels.

May import the rooms up to `source`.
"""

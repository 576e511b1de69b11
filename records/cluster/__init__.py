"""Finds photographs among drawings, or drawings among photographs, without labels.

May import the rooms up to `source`, and `inspect`.
"""

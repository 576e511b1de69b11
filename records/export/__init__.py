"""A record set in the formats of other tools, and back.

May import the rooms up to `source`, and `inspect`, which verifies an imported set.
"""

"""Which image belongs to which split or fold.

May import `common`, `image` and `format`.
"""

"""What lies on disk: examples, shards, index and manifest, and a set that is opened.

May import `common` and `image`.
"""

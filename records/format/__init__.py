"""The files of a record set: examples, shards, index and manifest; and how a set is opened.

May import `common` and `image`.
"""

"""From a folder, archive or iterator to a list of labelled images.

May import `common`, `image`, `format` and `split`.
"""

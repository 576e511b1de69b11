"""From the bytes of a file to pixels: formats, limits, decoding, fingerprints, statistics.

May import `common`.
"""

"""Images a second beside other ways to feed a network.

May import every other room but `preview`.
"""

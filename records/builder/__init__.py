"""From a list of labelled images to a record set: decode, lay out, write, switch.

May import the rooms up to `source`.
"""

"""What is wrong with a set, or differs from another: damage, leakage, differences.

May import the rooms up to `source`.
"""

"""What the model will see, and how much of each picture is left.

May import every other room but `profile` and `benchmark`.
"""

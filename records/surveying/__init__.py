"""What a source or a set is like before anything is trained, as findings and a page.

May import every room of `records`.
"""

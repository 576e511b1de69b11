"""What every room uses and what knows nothing of records: messages, whole files, workers, pages.

May import nothing of ours.
"""

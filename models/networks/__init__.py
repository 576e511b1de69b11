"""The networks by name, and where their first weights come from.

May import `records` and `datapipe`.
"""

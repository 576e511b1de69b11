"""Surveys of a source or record set before training: measurements, findings and a page.

May import every room of `records`.
"""

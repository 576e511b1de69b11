"""Helpers that know nothing of records: command lines, atomic files, worker processes, pages.

May import no other room.
"""

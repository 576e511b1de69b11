"""Batches in, a trained and honestly evaluated classifier out. See BUILD.md."""

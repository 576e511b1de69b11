"""Batches in, a trained and honestly evaluated classifier out. See BUILD.md."""

import records as records  # its start-up sees to Ctrl-C while modules are imported

"""Record sets in, training and evaluation batches out. See BUILD.md."""

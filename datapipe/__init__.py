"""Record sets in, training and evaluation batches out. See BUILD.md."""

import records as records  # its start-up sees to Ctrl-C while modules are imported

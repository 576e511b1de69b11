"""Names of the files in a run folder."""

RUN = "run.json"  # what was trained, on which records, how; written last: marks a finished run
BEST, LAST = "best.weights.h5", "last.weights.h5"
HISTORY, TIMING = "history.csv", "timing.csv"  # one line for each epoch
TENSORBOARD = "tensorboard"  # folder of events
CHECKPOINTS = "checkpoints"  # folder; removed when the training is finished

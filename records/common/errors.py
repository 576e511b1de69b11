"""The base of every error that is the user's to mend, not a fault of the program."""


class DatapipeError(Exception):
    """Something about an input, a folder or a run that its message names, with the rule.

    Binaries print any subclass as one line and exit with code 1; everything else that is raised is
    a fault of ours and keeps its traceback.
    """


class DamagedRecordError(DatapipeError, ValueError):
    """A record whose bytes do not agree with its own checksums or with the file's length."""

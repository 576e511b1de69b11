"""Ctrl-C while a binary is still importing its modules: one line instead of a traceback."""

import os
import signal
import sys

_PACKAGES = ("records.", "datapipe.", "models.")


def watch() -> None:
    """Ends the process at the first Ctrl-C, if Python was started with `-m` and a binary of ours.

    Called as soon as a package of ours is imported; `cli.run` takes over when everything is there.
    """
    # While Python looks for the module to run, this is all it has put into sys.argv[0].
    starting = sys.argv[:1] == ["-m"]
    ours = any(word.startswith(_PACKAGES) and word.endswith("_main") for word in sys.orig_argv)
    # A job in the background ignores Ctrl-C and keeps doing so.
    if starting and ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


def end(*_: object) -> None:
    """Ends the process with a line and code 130."""
    # Not through exceptions: native code that is being imported turns them into errors of its own.
    program = next(word for word in sys.orig_argv if word.startswith(_PACKAGES)).rpartition(".")[2]
    os.write(2, f"{program}.py: error: interrupted during start-up\n".encode())
    os._exit(130)

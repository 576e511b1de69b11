"""Makes the Nth fsync or rename of a tree of processes fail; imported by Python at its start.

FAULT_AT is N, FAULT_LOG the file that counts the calls of all processes (a byte each), FAULT_KIND
`kill` (the whole process group, before the call), or the name of an errno that the call raises.
With FAULT_CRASH a process dies as a decoder with a bug does when it meets a file with that in it.
"""

import errno
import os
import signal
import zlib

_LOG, _AT = os.environ.get("FAULT_LOG"), int(os.environ.get("FAULT_AT", "0"))
_KIND = os.environ.get("FAULT_KIND", "kill")


def _guarded(call):
    def wrapper(*arguments, **named):
        descriptor = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, b".")
        count = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.close(descriptor)
        if count == _AT:
            if _KIND == "kill":
                os.killpg(0, signal.SIGKILL)
            code = getattr(errno, _KIND)
            raise OSError(code, os.strerror(code))
        return call(*arguments, **named)

    return wrapper


if _LOG:
    for _name in ("fsync", "rename", "replace"):
        setattr(os, _name, _guarded(getattr(os, _name)))

if "FAULT_CRASH" in os.environ:
    _crc32 = zlib.crc32

    def _crashing(data, *more):
        if os.environ["FAULT_CRASH"].encode() in bytes(data):
            os.abort()
        return _crc32(data, *more)

    zlib.crc32 = _crashing  # Pillow checks each block of a PNG with it

"""The one place where TensorFlow is set up and imported.

Keras means `tf_keras` everywhere in this project; the environment variable must be set before
TensorFlow is imported. Importing TensorFlow also writes lines to the screen that no setting
silences (TF 2.21), so standard error is held back during the import and shown only if the import
fails. Code that runs in build workers never imports this module.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

# Whether `tf.keras` is tf_keras: not if TensorFlow was imported before without this variable. This
# project takes `keras` from here and does not care; TensorFlow Addons does.
tf_keras_is_legacy = "tensorflow" not in sys.modules or os.environ.get("TF_USE_LEGACY_KERAS") == "1"
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Holds back what native code writes to file descriptor 2; replays it on an exception."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


with _stderr_held_back():
    import tensorflow as tf
    import tf_keras as keras

tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf", "tf_keras_is_legacy"]

"""Items through worker processes: results in order, progress on the way, no waiting for the dead.

Each worker has a pipe of its own and nothing is shared, so a worker that is killed at any moment
holds no lock that others wait for; its end of the pipe closes and the work stops with its name.
`concurrent.futures` was tried first: in Python 3.10 and 3.11 it can wait for ever for a worker that
was being started, or given its work, when another died.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, TypeVar

from tqdm import tqdm

_PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal that comes when the parent is gone

Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int], None]


class WorkerDiedError(RuntimeError):
    """A worker process ended in the middle of its work."""


def run(
    function: Callable[[Item, Advance], Result],
    items: Sequence[Item],
    *,
    num_workers: int,
    total: int,
    title: str,
    show_progress: bool,
) -> list[Result]:
    """Returns `function(item, advance)` of every item, computed in worker processes.

    Args:
        function: importable by name; calls `advance(n)` to move the bar.
        items: handed out one at a time.
        num_workers: processes, at least 1.
        total: length of the bar.
        title: of the bar.
        show_progress: draw it, if standard error is a terminal.

    Raises:
        WorkerDiedError: if a worker is killed or crashes.
    """
    results: dict[int, Result] = {}
    waiting = iter(range(len(items)))
    off = None if show_progress else True  # None: off where standard error is no terminal
    bar = tqdm(total=total, desc=title, unit=" files", disable=off, mininterval=0.1)
    with bar, _crew(function, min(num_workers, len(items))) as crew:
        for pipe in crew:
            _hand_out(pipe, waiting, items)
        while len(results) < len(items):
            ready: list[Any] = connection.wait(list(crew))
            for pipe in ready:
                try:
                    kind, index, value = pipe.recv()
                except (EOFError, OSError):
                    raise _death(crew[pipe]) from None
                if kind == "advance":
                    bar.update(value)
                elif kind == "error":
                    raise value
                else:
                    results[index] = value
                    _hand_out(pipe, waiting, items)
    return [results[index] for index in range(len(items))]


@contextlib.contextmanager
def _crew(function: Callable[..., Any], size: int) -> Iterator[dict[Any, Any]]:
    """Starts workers; gives the pipe and the process of each; ends them whatever happens."""
    context = multiprocessing.get_context("spawn")
    crew: dict[Any, Any] = {}
    try:
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(function, theirs, os.getpid()), daemon=True
            )
            with _interrupts_ignored():  # inherited: the parent decides what Ctrl-C means
                process.start()
            theirs.close()  # so that its death closes the pipe
            crew[ours] = process
        yield crew
    finally:
        for pipe, process in crew.items():
            process.kill()
            process.join()
            pipe.close()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does, and only it gets Ctrl-C
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hand_out(pipe: Any, waiting: Iterator[int], items: Sequence[Any]) -> None:
    index = next(waiting, None)
    if index is not None:
        with contextlib.suppress(ConnectionError):  # a dead worker is noticed when it is read
            pipe.send((index, items[index]))


def _death(process: Any) -> WorkerDiedError:
    process.join(10)
    code = process.exitcode
    how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
    return WorkerDiedError(
        f"worker process {process.pid} ended {how} (out of memory?); run the same command again"
    )


def _serve(function: Callable[[Any, Advance], Any], pipe: Any, parent: int) -> None:
    """The life of a worker: takes an item, works, answers, until it is ended."""
    # Without its parent a worker would wait for ever, or write into the folder of the next build.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        return
    # Native decoders write about damaged files to the screen; the reject says it by name instead.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def advance(count: int) -> None:
        pipe.send(("advance", 0, count))

    while True:
        index, item = pipe.recv()
        try:
            pipe.send(("result", index, function(item, advance)))
        except Exception as error:
            pipe.send(("error", index, error))

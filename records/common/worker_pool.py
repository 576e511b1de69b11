"""A pool of worker processes with a progress bar that survives the death of a worker.

Each worker has a pipe of its own and shares nothing, so a worker that is killed holds no lock that
others wait for: its end of the pipe closes, and another worker takes its item. `concurrent.futures`
was tried first: if a worker died while another was started (Python 3.11) or given its work (3.10),
it could wait forever; and a progress counter with a lock stopped all workers when its holder died.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, resource_tracker
from typing import Any, TypeVar

from tqdm import tqdm

from records.common import checks, errors

_PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal sent when the parent is gone
_MAX_FILES = 1 << 16  # descriptors that may be open when a worker is forked
_MAX_DEATHS = 20  # in one run; more are not an accident

Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int, int], None]  # items done, of which skipped


class WorkerDiedError(errors.DatapipeError, RuntimeError):
    """Too many worker processes died."""


class WorkerPool:
    """A pool of worker processes, which live as long as its `with` block.

    Args:
        size: processes, at least 1.
        show_progress: draw progress bars if standard error is a terminal.
    """

    def __init__(self, size: int, *, show_progress: bool = True):
        checks.at_least("num_workers", size, 1)
        self._size = size
        self._show_progress = show_progress
        self._processes: dict[Any, Any] = {}  # by pipe

    def __enter__(self) -> "WorkerPool":
        # A fork takes no time, a fresh Python 0.2 s: a tenth of a build of 12,000 images. But with
        # other threads running, as TensorFlow has, a forked process may hang forever.
        alone = threading.active_count() == 1 and "tensorflow" not in sys.modules
        for _ in range(self._size):
            self._start("fork" if alone else "spawn")
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in list(self._processes):
            self._end(pipe)

    def run(
        self,
        function: Callable[[Item, Advance], Result],
        items: Iterable[Item],
        *,
        total: int,
        title: str,
        unit: str,
        retry: Callable[[Item], Item] = lambda item: item,
    ) -> Iterator[tuple[int, Result]]:
        """Yields (number of the item, `function(item, advance)`) in the order of completion.

        Args:
            function: importable by name; calls `advance(done, skipped)` to move the bar.
            items: taken one at a time, when a worker is free.
            retry: turns an item over which a worker died into the one to try again.

        Raises:
            WorkerDiedError: if 20 workers die.
        """
        waiting = enumerate(items)
        in_hand: dict[Any, tuple[int, Item]] = {}  # what each worker is working on, by pipe
        num_deaths = num_skipped = 0

        def hand_out(pipe: Any, numbered: tuple[int, Item] | None) -> None:
            if numbered is not None:
                in_hand[pipe] = numbered
                with contextlib.suppress(ConnectionError):  # a death is noticed by reading
                    pipe.send((function, *numbered))

        with _bar(total, title, unit, self._show_progress) as bar:
            for pipe in self._processes:
                hand_out(pipe, next(waiting, None))
            while in_hand:
                ready: list[Any] = connection.wait(list(in_hand))
                for pipe in ready:
                    number, item = in_hand[pipe]
                    kind, *content = _received(pipe)
                    if kind == "death":
                        del in_hand[pipe]
                        num_deaths += 1
                        hand_out(self._replace(pipe, num_deaths), (number, retry(item)))
                    elif kind == "advance":
                        bar.update(content[0])
                        if content[1]:
                            num_skipped += content[1]
                            bar.set_postfix(skipped=num_skipped, refresh=False)
                    elif kind == "error":
                        raise content[0]
                    else:
                        del in_hand[pipe]
                        hand_out(pipe, next(waiting, None))
                        yield number, content[0]

    def _start(self, method: str = "spawn") -> Any:
        context: Any = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        forked = method == "fork"
        if not forked:
            resource_tracker.ensure_running()  # starting it would let interrupts in
        process = context.Process(target=_serve, args=(theirs, os.getpid(), forked), daemon=True)
        with _interrupts_blocked():  # the parent decides what Ctrl-C means
            process.start()
        theirs.close()  # so that its death closes the pipe
        self._processes[ours] = process
        return ours

    def _end(self, pipe: Any) -> Any:
        process = self._processes.pop(pipe)
        process.kill()
        process.join()
        pipe.close()
        return process

    def _replace(self, pipe: Any, num_deaths: int) -> Any:
        process = self._processes[pipe]
        process.join(10)
        code = process.exitcode
        self._end(pipe)
        if num_deaths < _MAX_DEATHS:
            return self._start()
        how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
        raise WorkerDiedError(
            f"worker process {process.pid} ended {how}, the {num_deaths}th to end (out of memory?);"
            " run the same command again to resume"
        )


def in_order(results: Iterable[tuple[int, Result]]) -> list[Result]:
    """Returns what `WorkerPool.run` yields, in the order of its items."""
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def _received(pipe: Any) -> tuple[Any, ...]:
    """Returns a worker's message, `("death",)` if it has died."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return ("death",)


def _bar(total: int, title: str, unit: str, show_progress: bool) -> tqdm:
    tqdm.monitor_interval = 0  # no thread of its own, see WorkerPool.__enter__
    off = None if show_progress else True  # None: off where standard error is not a terminal
    return tqdm(total=total, desc=title, unit=f" {unit}", disable=off, mininterval=0.1)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Blocks Ctrl-C: a process started meanwhile never gets it, this one gets it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent, a process id, ends or has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def _serve(pipe: Any, parent: int, forked: bool) -> None:
    """The loop of a worker process, until it is killed."""
    if forked:  # close what the parent has open: the lock of the build, the pipes of others
        os.closerange(3, pipe.fileno())
        os.closerange(pipe.fileno() + 1, _MAX_FILES)
    # Without its parent a worker would wait forever, or write into the folder of the next build.
    end_with_parent(parent)
    # Native decoders print warnings about damaged files; the build reports each with its reason.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def advance(done: int, skipped: int) -> None:
        pipe.send(("advance", done, skipped))

    while True:
        function, _, item = pipe.recv()
        try:
            pipe.send(("result", function(item, advance)))
        except Exception as error:
            pipe.send(("error", error))

"""Items through worker processes: results in order, progress on the way, no waiting for the dead.

Each worker has a pipe of its own and nothing is shared, so a worker that is killed at any moment
holds no lock that others wait for: its end of the pipe closes, and another takes its item over.
`concurrent.futures` was tried first: in Python 3.10 and 3.11 it can wait for ever for a worker that
was being started, or given its work, when another died.
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

from records.common import errors

_PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal that comes when the parent is gone
_MOST_FILES = 1 << 16  # descriptors that may be open when a worker is forked
_MOST_DEATHS = 20  # in one run: more are no accident

Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int, int], None]  # items done, of which rejected


class WorkerDiedError(errors.DatapipeError, RuntimeError):
    """Worker processes ended in the middle of their work, again and again."""


class Crew:
    """Worker processes, from `with` to its end."""

    def __init__(self, size: int):
        """Makes a crew of `size` processes, at least 1.

        Raises:
            ValueError: if there are fewer.
        """
        if size < 1:
            raise ValueError(f"num_workers must be at least 1, got {size}")
        self._size = size
        self._processes: dict[Any, Any] = {}  # by pipe

    def __enter__(self) -> "Crew":
        # A fork is there at once, a fresh Python takes 0.2 s; but with threads about, as TensorFlow
        # has, a fork may stand still for ever.
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
        show_progress: bool,
        retry: Callable[[Item], Item] = lambda item: item,
    ) -> Iterator[tuple[int, Result]]:
        """Yields (number of the item, `function(item, advance)`) for every item, as they end.

        Args:
            function: importable by name; calls `advance(done, rejected)` to move the bar.
            items: taken one at a time, when a worker is free.
            total: length of the bar.
            title: of the bar.
            unit: of the bar.
            show_progress: draw it, if standard error is a terminal.
            retry: gives what to try again after a worker has died over an item.

        Raises:
            WorkerDiedError: if 20 workers die.
        """
        waiting = enumerate(items)
        held: dict[Any, tuple[int, Item]] = {}  # what each worker has in hand, by pipe
        deaths = 0
        bar = _bar(total, title, unit, show_progress)

        def hand_out(pipe: Any, numbered: tuple[int, Item] | None) -> None:
            if numbered is not None:
                held[pipe] = numbered
                with contextlib.suppress(ConnectionError):  # a death is noticed by reading
                    pipe.send((function, *numbered))

        with bar:
            rejected = 0
            for pipe in self._processes:
                hand_out(pipe, next(waiting, None))
            while held:
                ready: list[Any] = connection.wait(list(held))
                for pipe in ready:
                    index, item = held[pipe]
                    kind, *said = _received(pipe)
                    if kind == "death":
                        del held[pipe]
                        deaths += 1
                        hand_out(self._replace(pipe, deaths), (index, retry(item)))
                    elif kind == "advance":
                        bar.update(said[0])
                        rejected += said[1]
                        if said[1]:
                            bar.set_postfix(rejected=rejected, refresh=False)
                    elif kind == "error":
                        raise said[0]
                    else:
                        del held[pipe]
                        hand_out(pipe, next(waiting, None))
                        yield index, said[0]

    def _start(self, method: str = "spawn") -> Any:
        context: Any = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        forked = method == "fork"
        if not forked:
            resource_tracker.ensure_running()  # starting it would let interrupts in
        process = context.Process(target=_serve, args=(theirs, os.getpid(), forked), daemon=True)
        with _interrupts_held_back():  # the parent decides what Ctrl-C means
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

    def _replace(self, pipe: Any, deaths: int) -> Any:
        """Starts a worker in the place of a dead one, unless too many have died."""
        process = self._processes[pipe]
        process.join(10)
        code = process.exitcode
        self._end(pipe)
        if deaths < _MOST_DEATHS:
            return self._start()
        how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
        raise WorkerDiedError(
            f"worker process {process.pid} ended {how}, the {deaths}th to end (out of memory?);"
            " run the same command again to go on"
        )


def _received(pipe: Any) -> tuple[Any, ...]:
    """Returns what a worker says, `("death",)` if it can say nothing any more."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return ("death",)


def _bar(total: int, title: str, unit: str, show_progress: bool) -> tqdm:
    tqdm.monitor_interval = 0  # no thread of its own, see Crew.__enter__
    off = None if show_progress else True  # None: off where standard error is no terminal
    return tqdm(total=total, desc=title, unit=f" {unit}", disable=off, mininterval=0.1)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Blocks Ctrl-C: a process that is started meanwhile never gets it, this one gets it after."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(parent: int) -> None:
    """Lets this process be killed when its parent is gone, if that has not happened yet.

    Args:
        parent: its process number.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def _serve(pipe: Any, parent: int, forked: bool) -> None:
    """The life of a worker: takes an item, works, answers, until it is ended."""
    if forked:  # what the parent has open is not ours: locks, the pipes of others
        os.closerange(3, pipe.fileno())
        os.closerange(pipe.fileno() + 1, _MOST_FILES)
    # Without its parent a worker would wait for ever, or write into the folder of the next build.
    end_with_parent(parent)
    # Native decoders write about damaged files to the screen; the reject says it by name instead.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def advance(done: int, rejected: int) -> None:
        pipe.send(("advance", done, rejected))

    while True:
        function, _, item = pipe.recv()
        try:
            pipe.send(("result", function(item, advance)))
        except Exception as error:
            pipe.send(("error", error))

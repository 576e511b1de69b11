"""The bar over an epoch, and where its time went."""

import time

from tqdm import tqdm

_CALL_SECONDS = 0.5  # a call of several steps: long beside its overhead, short for the eye
_MOST_STEPS = 64


class Progress:
    """Counts steps, images and seconds of an epoch; a context, within which the bar is drawn."""

    def __init__(self, title: str, steps: int, done: int, *, show: bool):
        """Begins to count.

        Args:
            title: of the bar.
            steps: of the epoch.
            done: how many of them have been done before.
            show: whether to draw the bar, on a terminal.
        """
        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=title,
            unit=" steps",
            leave=False,
            disable=None if show else True,
        )
        self._began = self._last = time.monotonic()
        self._steps = self._images = 0
        self._waited = self._seconds = 0.0
        self._fastest = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def steps_in_a_call(self) -> int:
        """Returns how many steps take half a second, by the fastest so far: the first compiles."""
        if not self._fastest:
            return 1
        return max(1, min(_MOST_STEPS, int(_CALL_SECONDS / self._fastest)))

    def done(self, steps: int, batch_size: int, waited: float) -> None:
        """Counts steps that were done since the last call.

        Args:
            steps: how many.
            batch_size: images of each.
            waited: seconds of the time that went into waiting for input.
        """
        now = time.monotonic()
        each = (now - self._last) / steps
        self._fastest = min(self._fastest or each, each)
        self._last, self._seconds = now, now - self._began
        self._steps += steps
        self._images += steps * batch_size
        self._waited += waited
        self._bar.set_postfix_str(
            f"{self._images / self._seconds:,.0f} images/s,"
            f" {self._waited / self._seconds:.0%} waiting for input",
            refresh=False,
        )
        self._bar.update(steps)

    def figures(self) -> dict[str, float]:
        """Returns steps, seconds, images a second and the share of time spent on waiting."""
        seconds = max(self._seconds, 1e-9)
        return {
            "steps": self._steps,
            "seconds": seconds,
            "images_per_second": self._images / seconds,
            "waiting_for_input": self._waited / seconds,
        }

"""The rows of a split that does not fit into memory: windows of shards, read one after the other.

In epoch e the shards stand in an order keyed by (seed, e). A *window* is some neighbours of that
order, at most `shards_per_window` and as even as possible. One window after the other is read
whole, and its draws are gathered from memory in random order.

Draws. The plan's q_c draws of the n_c rows of class c are divided among windows: the windows that
hold the first x rows of the class have floor((q_c x + phase) / n_c) draws, the phase being uniform
in 0..n_c - 1 and keyed by (seed, e, c). A window divides its draws among its rows as evenly as it
can, the odd ones at random. So an epoch has exactly q_c draws, and each row of the class is drawn
q_c / n_c times in it, rounded up or down so that this is its mean. From one epoch to the next
nothing is remembered: an undersampled class shows a new random part of itself in every epoch and
does not rotate as in memory.

Mixing. Two rows can meet in a batch only if their shards share a window of that epoch, or if the
batch lies across the end of a window: then with rows of the next window, after the last with those
of the next epoch (and of more where windows have fewer draws than a batch). Each epoch makes new
windows, so any two rows meet sometime. Rows stand in shards in the order of a hash, so a window is
a random sample of the split. If one window holds all shards, all rows are shuffled as in memory.

Resuming. Position p of the stream lies in epoch p div E as in memory, and the first positions of
the windows follow from counts. So step s is found without reading, and nothing is read but its
window and those that follow. The stream depends on the plan and on `shards_per_window` alone, not
on replicas or threads; but each process reads every shard and gathers its own slice.

Memory. At most three windows of decoded pixels: the one in use and, of the next, the pieces that
were read and the tensor that they are put together in. Beside them stand the batches under way, 4
bytes a row of labels, 8 bytes a class and shard, and 16 bytes a draw of a window.

A dataset holds TensorFlow's operations alone, no Python function, so a tf.data service can run it.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping

import numpy as np

from datapipe import randomness
from datapipe.plan.batch_slice import WHOLE, Slice
from datapipe.plan.sampling import SamplingPlan
from records.common import checks, errors
from records.common.backend import tf
from records.format import example, manifest
from records.format.record_set import RecordSet

_AUTO = tf.data.AUTOTUNE
# Rows are read and decoded so many bytes at a time: 64 pictures of 64x64. With 16 at a time each
# takes 1.7 times the processor time, with 256 no less.
_PIECE_BYTES = 768 << 10
_WINDOWS_HELD = 3  # in use; pieces of the next; the next put together

# What the graph says of a shard, within all that TensorFlow says around it.
_FAULT = re.compile(r"[^\[\]\n]*records can be read[^\[\]\n]*|[^\s\[]*; No such file[^\[\]\n]*")

Window = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class StreamedRows:
    """The rows of a split, on disk.

    Attributes:
        labels: int32 [rows], a host tensor.
        paths: of the shards.
        rows_per_shard: int64 [shards]; row numbers continue from shard to shard.
        class_counts: int64 [shards, classes], rows of each class in each shard.
        image_size: height and width, in pixels.
        encoding: of the pixels in a record.
        shards_per_window: how many shards are mixed, at most.
    """

    labels: tf.Tensor
    paths: tuple[str, ...]
    rows_per_shard: np.ndarray
    class_counts: np.ndarray
    image_size: int
    encoding: str
    shards_per_window: int

    def __len__(self) -> int:
        return int(self.rows_per_shard.sum())

    @property
    def windows_per_epoch(self) -> int:
        """Windows that the shards are divided into."""
        return -(-len(self.paths) // self.shards_per_window)

    @property
    def memory_bytes(self) -> int:
        """Bytes of pixels that the stream holds at most, beside its batches."""
        rows = self.shards_per_window * self._pieces * self._piece_rows
        return _WINDOWS_HELD * rows * self._image_bytes

    def batches(
        self, plan: SamplingPlan, *, start_step: int = 0, part: Slice = WHOLE
    ) -> tf.data.Dataset:
        """Returns the endless stream of the plan's draws, from `start_step` on.

        Step s has the positions s * batch_size and on.

        A shard that is cut, has a damaged record or another number of records than the manifest
        says ends the iteration with `tf.errors.InvalidArgumentError`, one that is gone with
        `tf.errors.NotFoundError`; both name the file. A shard of another set with as many bytes and
        records is not noticed here, only by `inspect_main verify`.

        Args:
            plan: over these rows, of class targets only.
            start_step: where to begin; a stream begun at s equals the rest of one begun at 0.
            part: which part of each global batch.

        Returns:
            A dataset of `image` uint8 [n, size, size, 3], `label` int32 [n], `row` int64 [n] (in
            the index of the split) and `position` int64 [n] (in the stream), n being the size of
            the part. One plan and `shards_per_window` give one stream, to the bit.

        Raises:
            ValueError: if the plan is not over these rows, has strata or stratified batches, or its
                batch does not divide evenly.
        """
        self._check(plan)
        part.first_element(start_step)  # checked there
        size, begin = part.size(plan.batch_size), start_step * plan.batch_size
        draws = WindowDraws(plan, _on_host(self.class_counts), self.windows_per_epoch)

        def elements(window: Window) -> tf.data.Dataset:
            """Cuts a window where the elements end, so that most are whole already."""
            first, end = tf.maximum(window["start"], begin), _end(window)
            ds = tf.data.Dataset.range(first // size, -(-end // size))
            ds = ds.filter(part.has)
            return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(window).repeat(), ds))

        def gather(window: Window, number: tf.Tensor) -> Window:
            first = tf.maximum(number * size, window["start"])
            position = tf.range(first, tf.minimum(number * size + size, _end(window)))
            at = position - window["start"]
            row = tf.gather(window["row"], at)
            image = tf.gather(window["pixels"], tf.gather(window["at"], at))
            label = tf.gather(self.labels, row)
            return {"image": self._shaped(image), "label": label, "row": row, "position": position}

        ds = tf.data.Dataset.range(begin // plan.epoch_length, tf.int64.max)
        ds = ds.flat_map(draws.windows).skip(draws.first_window(begin))
        ds = ds.filter(lambda window: tf.reduce_any(window["draws"] > 0))
        ds = ds.flat_map(lambda window: self._loaded(window, draws)).prefetch(1)
        ds = ds.flat_map(elements)
        ds = ds.map(gather, num_parallel_calls=_AUTO, deterministic=True)
        return ds.rebatch(size, drop_remainder=True)

    def in_order(self, batch_size: int) -> tf.data.Dataset:
        """Returns every row once, in order: `image`, `label` and `row` as of `batches`.

        The last batch may be short. A faulty shard ends the iteration as in `batches`.

        Raises:
            ValueError: if the batch size is not positive.
        """
        checks.at_least("batch_size", batch_size, 1)
        ends = tf.constant(self.rows_per_shard.cumsum())
        starts = ends - tf.constant(self.rows_per_shard)

        def shard(number: tf.Tensor) -> tf.data.Dataset:
            row = tf.range(starts[number], ends[number])
            label = tf.gather(self.labels, row)

            def rows(pixels: tf.Tensor) -> Window:
                return {"image": self._shaped(pixels[: tf.size(row)]), "label": label, "row": row}

            return self._pixels(number[None]).map(rows)

        ds = tf.data.Dataset.range(len(self.paths)).flat_map(shard)
        return ds.prefetch(1).rebatch(batch_size)

    def pixels(self, batch: Window) -> tf.Tensor:
        """Returns the stored images of a batch, uint8 [n, size, size, 3]."""
        return batch["image"]

    def _check(self, plan: SamplingPlan) -> None:
        if plan.has_strata or plan.stratified_batches:
            what = "strata" if plan.has_strata else "stratified batches"
            raise ValueError(
                f"a streamed split offers class targets only, got a plan with {what};"
                " those need the rows in memory"
            )
        if not np.array_equal(plan.counts, self.class_counts.sum(axis=0)):
            raise ValueError(
                f"the plan must be over the rows of this split, {self.class_counts.sum(axis=0)} of"
                f" each class, got one over {plan.counts}"
            )

    @property
    def _image_bytes(self) -> int:
        return self.image_size * self.image_size * example.CHANNELS

    @property
    def _piece_rows(self) -> int:
        return max(1, _PIECE_BYTES // self._image_bytes)

    @property
    def _pieces(self) -> int:
        """Pieces of the fullest shard; there is room for one record more than there shall be."""
        return int(self.rows_per_shard.max()) // self._piece_rows + 1

    def _shaped(self, pixels: tf.Tensor) -> tf.Tensor:
        return tf.reshape(pixels, [-1, self.image_size, self.image_size, example.CHANNELS])

    def _loaded(self, window: Window, draws: "WindowDraws") -> tf.data.Dataset:
        """Returns the one window with its pixels, and the row and pixel index of each position."""
        row, at = self._indexes(window["shards"])
        drawn = draws.order(window, row, tf.gather(self.labels, row))
        where = {"row": tf.gather(row, drawn), "at": tf.gather(at, drawn)}
        ds = self._pixels(window["shards"])
        return ds.map(lambda pixels: {"start": window["start"], "pixels": pixels, **where})

    def _indexes(self, shards: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the rows of some shards and where `_pixels` puts them; int64 [n] each."""
        sizes = tf.gather(tf.constant(self.rows_per_shard), shards)
        count = tf.size(shards, tf.int64)
        shard = tf.repeat(tf.range(count), sizes)
        within = tf.range(tf.reduce_sum(sizes)) - tf.gather(tf.cumsum(sizes, exclusive=True), shard)
        starts = tf.constant(self.rows_per_shard.cumsum() - self.rows_per_shard)
        row = tf.gather(starts, tf.gather(shards, shard)) + within
        piece, in_piece = within // self._piece_rows, within % self._piece_rows
        return row, (piece * count + shard) * self._piece_rows + in_piece

    def _pixels(self, shards: tf.Tensor) -> tf.data.Dataset:
        """Returns one element, uint8 [m, bytes of an image], with all rows of some shards.

        The shards are read at the same time and take turns: the first piece of each, the second of
        each, and so on. So a piece is copied once, to its place among all. The rows of a single
        shard stand in order.
        """
        paths = tf.gather(tf.constant(self.paths), shards)
        ds = tf.data.Dataset.from_tensor_slices(paths)
        ds = ds.interleave(
            self._pieces_of,
            cycle_length=self.shards_per_window,
            num_parallel_calls=_AUTO,
            deterministic=True,
        )
        ds = ds.batch(self.shards_per_window * self._pieces)

        def checked(pixels: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
            found = tf.reduce_sum(tf.reshape(counts, [self._pieces, -1]), axis=0)
            _check_counts(paths, found, tf.gather(tf.constant(self.rows_per_shard), shards))
            return tf.reshape(pixels, [-1, self._image_bytes])

        return ds.map(checked)

    def _pieces_of(self, path: tf.Tensor) -> tf.data.Dataset:
        """Returns the shard as `_pieces` equal pieces, with the number of rows in each.

        A damaged record ends the shard early and is missed when its rows are counted: then the
        message can name the file, which that of TensorFlow's reader does not.
        """
        shape = [self._piece_rows, self._image_bytes]

        def piece(payloads: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            count, pixels = tf.size(payloads), self._decoded(payloads)
            missing = self._piece_rows - count  # of the last piece alone: padding is a copy
            padded = tf.cond(
                missing > 0, lambda: tf.pad(pixels, [[0, missing], [0, 0]]), lambda: pixels
            )
            return tf.ensure_shape(padded, shape), tf.cast(count, tf.int64)

        # `TFRecordDataset` takes 8 us of processor time for a row of 12 KB, 2.5 of them for
        # checksums. Tried without gain: whole files (three page faults a row, 8 us), blocks of
        # 768 kB by `FixedLengthRecordDataset` (8 us, unchecked), other buffers, a pool of our own.
        def pieces(_: tf.Tensor) -> tf.data.Dataset:
            records = tf.data.TFRecordDataset(path).ignore_errors()
            return records.batch(self._piece_rows).map(piece)

        # A file that cannot be opened must fail here: `ignore_errors` would try for ever.
        ds = tf.data.FixedLengthRecordDataset(path, 1).take(1).flat_map(pieces)
        nothing = (tf.zeros(shape, tf.uint8), tf.zeros([], tf.int64))
        return ds.concatenate(tf.data.Dataset.from_tensors(nothing).repeat()).take(self._pieces)

    def _decoded(self, payloads: tf.Tensor) -> tf.Tensor:
        """Returns the pixels of records, string [n] to uint8 [n, bytes of an image]."""
        # Decoded at once: kept as strings, rows cost 1.4 times as much (two page faults a row).
        size = self._image_bytes
        if self.encoding == "raw":  # the image is the last feature of a record: nothing to parse
            return tf.io.decode_raw(tf.strings.substr(payloads, -size, size), tf.uint8)

        def decode(data: tf.Tensor) -> tf.Tensor:
            if self.encoding == "png":
                image = tf.io.decode_png(data, channels=example.CHANNELS)
            else:  # the default method is faster and gives other pixels than Pillow
                accurate = "INTEGER_ACCURATE"
                image = tf.io.decode_jpeg(data, channels=example.CHANNELS, dct_method=accurate)
            return tf.reshape(image, [size])

        spec = {"image": tf.io.FixedLenFeature([], tf.string)}
        data = tf.io.parse_example(payloads, spec)["image"]
        return tf.map_fn(decode, data, fn_output_signature=tf.TensorSpec([size], tf.uint8))


@dataclasses.dataclass(frozen=True)
class WindowDraws:
    """What is random in a stream: the order of the shards, and which draw stands where.

    Attributes:
        plan: the draws of an epoch and the seed.
        counts: int64 [shards, classes], rows of each class in each shard.
        num_windows: in an epoch.
    """

    plan: SamplingPlan
    counts: tf.Tensor
    num_windows: int

    def windows(self, epoch: tf.Tensor) -> tf.data.Dataset:
        """Returns the windows of an epoch.

        `number` counts them over all epochs, `start` is the first position, `shards` int64 [n] says
        which, `draws` int64 [classes] how many of each class.
        """
        order, starts, drawn = self._epoch(epoch)
        edges = tf.constant(self._edges)

        def window(number: tf.Tensor) -> Window:
            return {
                "number": epoch * self.num_windows + number,
                "start": starts[number],
                "shards": order[edges[number] : edges[number + 1]],
                "draws": drawn[number + 1] - drawn[number],
            }

        return tf.data.Dataset.range(self.num_windows).map(window)

    def first_window(self, position: int) -> int:
        """Returns which window of its epoch holds a position."""
        starts = self._epoch(tf.constant(position // self.plan.epoch_length, tf.int64))[1]
        return int(np.searchsorted(starts, position, side="right")) - 1

    def order(self, window: Window, row: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """Returns which row of a window stands at each of its positions; int64 [draws].

        Args:
            window: as of `windows`.
            row: int64 [n], the rows of the window.
            label: int32 [n], their classes.
        """
        label = tf.cast(label, tf.int64)
        sizes = tf.math.bincount(label, minlength=len(self.plan.counts), dtype=tf.int64)
        # Sorted by class, and by a random number within it, of which 40 bits are left.
        noise = tf.bitwise.right_shift(self._noise("rows", window["number"], row), 24)
        by_class = tf.argsort(tf.bitwise.left_shift(label, 40) + tf.cast(noise, tf.int64))
        of = tf.gather(label, by_class)
        rank = tf.range(tf.size(row, tf.int64)) - tf.gather(tf.cumsum(sizes, exclusive=True), of)
        each = window["draws"] // tf.maximum(sizes, 1)
        more = window["draws"] - each * sizes
        times = tf.gather(each, of) + tf.cast(rank < tf.gather(more, of), tf.int64)
        drawn = tf.repeat(by_class, times)
        noise = self._noise("draws", window["number"], tf.range(tf.size(drawn, tf.int64)))
        return tf.gather(drawn, _sorted(noise))

    @property
    def _edges(self) -> np.ndarray:
        """Where each window ends in the order of the shards, after a 0; int64 [windows + 1]."""
        return np.arange(self.num_windows + 1) * len(self.counts) // self.num_windows

    def _epoch(self, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the order of the shards, and at the edges of windows the position and the draws.

        int64 [shards], [windows + 1] and [windows + 1, classes].
        """
        shards = tf.range(len(self.counts), dtype=tf.int64)
        order = _sorted(self._noise("shards", epoch, shards))
        seen = tf.cumsum(tf.gather(self.counts, order))
        seen = tf.gather(tf.pad(seen, [[1, 0], [0, 0]]), tf.constant(self._edges))
        rows = tf.constant(np.maximum(self.plan.counts, 1))
        noise = self._noise("phases", epoch, tf.range(len(self.plan.counts), dtype=tf.int64))
        phase = tf.cast(noise % tf.cast(rows, tf.uint64), tf.int64)
        drawn = (tf.constant(self.plan.draws) * seen + phase) // rows
        return order, epoch * self.plan.epoch_length + tf.reduce_sum(drawn, axis=1), drawn

    def _noise(self, use: str, number: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """Returns random bits for each index, keyed by the seed, the use and a number; uint64."""
        seed = randomness.derive_seed(self.plan.seed, f"{use} of a stream")
        return randomness.hash64(index, randomness.hash64(number, seed))


@contextlib.contextmanager
def faults_named() -> Iterator[None]:
    """Turns what a faulty shard does to an iteration into the error that loading gives.

    Raises:
        DamagedRecordError: with the one line that names the shard.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        line = _FAULT.search(str(error))
        if not line:
            raise
        raise errors.DamagedRecordError(line[0]) from None


def _sorted(noise: tf.Tensor) -> tf.Tensor:
    """Returns the indexes of random numbers in rising order: a random permutation; int64 [n]."""
    return tf.cast(tf.argsort(tf.bitcast(noise, tf.int64)), tf.int64)


def _check_counts(paths: tf.Tensor, found: tf.Tensor, wanted: tf.Tensor) -> None:
    """Stops the dataset where a shard has not the number of records that it must have."""
    bad = tf.argmax(tf.cast(found != wanted, tf.int32))
    folder = tf.strings.regex_replace(paths[bad], "/[^/]*$", "")
    text = (
        *(paths[bad], ": ", tf.strings.as_string(found[bad]), " records can be read, the manifest"),
        *(" says ", tf.strings.as_string(wanted[bad]), "; python -m records.inspect_main verify"),
        *(" --records=", folder, " tells more"),
    )
    tf.debugging.Assert(tf.reduce_all(found == wanted), [tf.strings.join(text)])


def _end(window: Window) -> tf.Tensor:
    return window["start"] + tf.size(window["row"], tf.int64)


def _on_host(values: np.ndarray) -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.convert_to_tensor(values)


def open_stream(
    record_set: RecordSet, split: str, *, window_bytes: int = 256 << 20
) -> StreamedRows:
    """Returns the rows of a split, of which nothing is read but the index.

    Args:
        window_bytes: decoded pixels of a window, to the nearest whole number of shards and at least
            one. More mixes better and takes more memory: `StreamedRows.memory_bytes`.

    Raises:
        ManifestError: if there is no such split, it has no rows, or index and manifest differ.
        ValueError: if `window_bytes` is not positive.
    """
    checks.at_least("window_bytes", window_bytes, 1)
    info = record_set.manifest.split(split)
    if info.count == 0:
        raise manifest.ManifestError(f"split {split!r} of {record_set.folder} has no rows")
    index, num_classes = record_set.index(split), len(record_set.manifest.class_names)
    cells = index.shard.astype(np.int64) * num_classes + index.label
    num_shards = len(info.shards)
    counts = np.bincount(cells, minlength=num_shards * num_classes).reshape(num_shards, num_classes)
    rows = counts.sum(axis=1)
    for shard, found in zip(info.shards, rows.tolist(), strict=True):
        if found != shard.records:
            raise manifest.ManifestError(
                f"{record_set.path(shard)}: the index has {found} rows, the manifest says"
                f" {shard.records}"
            )
    shard_bytes = int(rows.max()) * record_set.manifest.image_bytes
    return StreamedRows(
        labels=_on_host(index.label),
        paths=tuple(record_set.path(shard) for shard in info.shards),
        rows_per_shard=rows,
        class_counts=counts,
        image_size=record_set.manifest.image_size,
        encoding=record_set.manifest.encoding,
        shards_per_window=min(len(info.shards), max(1, round(window_bytes / shard_bytes))),
    )

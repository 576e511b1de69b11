"""Builds that are killed, run out of space or meet a failing disk: real processes, real files."""

import contextlib
import glob
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from PIL import PngImagePlugin

from records.builder import accounting, build, layout
from records.format import manifest, record_set
from records.image import decode
from records.inspect import verify
from records.source import listing as sources
from tests import fakes

pytestmark = pytest.mark.slow

SIZE = 16


def command(source, output, *more):
    flags = (f"--source={source}", f"--output={output}", f"--image_size={SIZE}", "--num_workers=2")
    return [sys.executable, "-m", "records.build_main", *flags, *more]


def start(source, output, *more, **environment):
    return subprocess.Popen(
        command(source, output, *more),
        cwd=fakes.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
        env={**os.environ, **environment},
    )


def injected(log, at, kind="kill"):
    inject = str(fakes.ROOT / "tests/faults/inject")
    return {"PYTHONPATH": inject, "FAULT_LOG": str(log), "FAULT_AT": str(at), "FAULT_KIND": kind}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def go_on(source, output, seed=0, size=SIZE, encoding="raw", **how):
    """Runs the same build in this process."""
    options = build.BuildOptions(
        decode.ImagePolicy(size), encoding, splits=layout.SplitOptions(seed=seed)
    )
    listing = sources.from_folders(str(source))
    return build.build(listing, str(output), options, num_workers=1, show_progress=False, **how)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return fakes.class_tree(tmp_path_factory.mktemp("small") / "tree", {"a": 150, "쓴": 60})


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    return fakes.class_tree(tmp_path_factory.mktemp("larger") / "tree", {"a": 1100, "b": 700}, 64)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """The small set, built undisturbed, and the number of calls that can fail on the way."""
    folder = tmp_path_factory.mktemp("whole")
    done = start(small, folder / "out", **injected(folder / "log", 0))
    assert done.wait(60) == 0
    return contents(folder / "out"), (folder / "log").stat().st_size


def test_killed_at_every_rename_and_fsync(small, whole, tmp_path):
    expected, calls = whole
    assert calls >= 30
    for at in range(1, calls + 1):
        output = tmp_path / f"{at}"
        assert start(small, output, **injected(tmp_path / f"log{at}", at)).wait(60) == -9
        if output.exists():  # killed after the switch
            assert contents(output) == expected, at
        go_on(small, output)
        assert contents(output) == expected, at
        assert not os.path.exists(f"{output}.building"), at


def test_killed_at_every_rename_and_fsync_of_a_rebuild(small, whole, tmp_path):
    before, calls = whole
    go_on(small, tmp_path / "new", seed=1)
    after = contents(tmp_path / "new")
    for at in range(calls - 8, calls + 1):  # the last ones are the manifest and the switch
        output = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "new", output)  # stands for an older set, of another seed
        process = start(small, output, "--replace", **injected(tmp_path / f"log{at}", at))
        process.wait(60)
        assert contents(output) in (before, after), at
        go_on(small, output, replace=True)
        assert contents(output) == before, at


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC"])
def test_a_failing_call_is_an_error_and_the_next_build_equal(small, whole, tmp_path, kind):
    expected, calls = whole
    for at in range(1, calls + 1, 4):
        output = tmp_path / f"{at}"
        process = start(small, output, **injected(tmp_path / f"log{at}", at, kind))
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 1 and "Traceback" not in errors, (at, errors)
        assert os.strerror(getattr(__import__("errno"), kind)) in errors, errors
        go_on(small, output)
        assert contents(output) == expected, at


def test_killed_fifty_times_at_random_moments(larger, tmp_path):
    go_on(larger, tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    output, rng = tmp_path / "out", random.Random(0)
    began = time.monotonic()
    assert start(larger, output).wait(60) == 0
    duration = time.monotonic() - began
    assert contents(output) == expected
    unfinished = 0
    with reader(output) as (seen, looking):
        for number in range(50):
            if output.exists():
                with looking:  # it is the test that takes the set away, not a build
                    output.rename(tmp_path / f"before{number}")
            process = start(larger, output)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, duration))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            unfinished += not output.exists()
            if output.exists():
                assert contents(output) == expected
        go_on(larger, output)
    assert contents(output) == expected and unfinished >= 20
    assert seen["half"] == [] and seen["whole"] > 0


@contextlib.contextmanager
def reader(output):
    """Opens the set all the time and keeps what is neither whole nor absent."""
    seen = {"whole": 0, "absent": 0, "half": []}
    ended, looking = threading.Event(), threading.Lock()

    def look():
        while not ended.is_set():
            with looking:
                try:
                    record_set.open_set(str(output))
                    seen["whole"] += 1
                except manifest.ManifestError as error:
                    seen["absent"] += 1
                    if "no record set in" not in str(error):
                        seen["half"].append(str(error))
            ended.wait(0.001)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen, looking
    finally:
        ended.set()
        thread.join()


def test_a_rebuild_is_wholly_old_or_wholly_new_to_readers(small, tmp_path):
    output = tmp_path / "out"
    digests = []
    for seed in (0, 1):
        go_on(small, output, seed=seed, replace=True)
        digests.append(manifest.load(str(output)).digest)
    seen, ended = set(), threading.Event()

    def look():
        while not ended.is_set():
            opened = record_set.open_set(str(output))  # an error here fails the test below
            seen.add(opened.manifest.digest)
        seen.add("ended")

    thread = threading.Thread(target=look)
    thread.start()
    for seed in (0, 1, 0, 1):
        go_on(small, output, seed=seed, replace=True)
    ended.set()
    thread.join()
    assert seen == {*digests, "ended"}


def test_a_finished_shard_that_was_damaged_is_written_again_and_named(larger, tmp_path):
    go_on(larger, tmp_path / "whole")
    output = tmp_path / "out"
    log = tmp_path / "log"
    calls_before_manifest = 62
    assert start(larger, output, **injected(log, calls_before_manifest)).wait(60) == -9
    (shard, *_) = sorted((tmp_path / "out.building/set").glob("train-*.tfrecord"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    built = go_on(larger, output)
    assert built.repaired == (shard.name,) and built.resumed[0] > 5
    assert contents(output) == contents(tmp_path / "whole")


def test_a_damaged_chunk_is_made_again(small, whole, tmp_path):
    output = tmp_path / "out"
    assert start(small, output, **injected(tmp_path / "log", 12)).wait(60) == -9
    for path in (tmp_path / "out.building/chunks").glob("*.images"):
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
    go_on(small, output)
    assert contents(output) == whole[0]


def test_a_killed_worker_is_replaced(larger, tmp_path):
    go_on(larger, tmp_path / "whole", size=300, encoding="png")
    output = tmp_path / "out"
    process = start(larger, output, "--image_size=300", "--encoding=png")  # takes some seconds
    victims = []
    for finished in (1, 3, 5):  # chunks, of 15
        while process.poll() is None and len(chunks_of(output)) < finished:
            os.sched_yield()
        victims.append(workers_of(process.pid)[0])
        os.kill(victims[-1], signal.SIGKILL)
    assert len(set(victims)) == 3
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0, errors
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_files_that_crash_a_decoder_are_skipped_by_name(tmp_path):
    root = fakes.class_tree(tmp_path / "tree", {"a": 40, "b": 40})
    for number, key in enumerate(("a/bad.png", "b/worse.png")):
        text = PngImagePlugin.PngInfo()
        text.add_text("comment", "DEADLY")
        fakes.tree(root, {key: fakes.encoded(fakes.pixels(number), pnginfo=text)})
    inject = str(fakes.ROOT / "tests/faults/inject")
    process = start(root, tmp_path / "out", PYTHONPATH=inject, FAULT_CRASH="DEADLY")
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0, errors
    found = {reject.key: reject.reason for reject in accounting.read_omitted(str(tmp_path / "out"))}
    assert found == {"a/bad.png": "crashed_decoder", "b/worse.png": "crashed_decoder"}
    assert len(contents(tmp_path / "out")) >= 6
    assert not go_on(root, tmp_path / "out").fresh  # and reading it again finds the same set


def test_workers_end_with_the_build(larger, tmp_path):
    process = start(larger, tmp_path / "out")
    while process.poll() is None and not (victims := workers_of(process.pid)):
        os.sched_yield()
    process.kill()  # the builder alone
    process.wait()
    deadline = time.monotonic() + 20
    while any(alive(victim) for victim in victims) and time.monotonic() < deadline:
        os.sched_yield()
    assert not any(alive(victim) for victim in victims)


def test_ctrl_c_stops_with_one_line_and_the_next_build_goes_on(larger, tmp_path):
    output = tmp_path / "out"
    process = start(larger, output, "--image_size=300", "--encoding=png")  # takes some seconds
    while process.poll() is None and not chunks_of(output):
        os.sched_yield()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert errors == (
        "build_main.py: error: interrupted; run the same command again to resume the build\n"
    )
    assert not output.exists()
    assert go_on(larger, output, size=300, encoding="png").resumed[0] >= 1
    assert verify.verify(str(output)) == []


INTERRUPTED = """
import os, signal
from records.common import worker_pool
def start():
    with worker_pool.WorkerPool(2, show_progress=False) as pool:
        for process in pool._processes.values():
            os.kill(process.pid, signal.SIGINT)
        done = pool.run(
            absolute, [-1, -2, -3], total=3, title="", unit=""
        )
        print(sorted(done))
    with worker_pool._interrupts_blocked():
        os.kill(os.getpid(), signal.SIGINT)
        print("held back")
    print("lost")
def absolute(item, advance):
    return abs(item)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    start()
except KeyboardInterrupt:
    print("delivered")
"""


def test_ctrl_c_while_a_worker_starts_is_not_lost():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=fakes.ROOT, capture_output=True, text=True
    )
    results = "[(0, 1), (1, 2), (2, 3)]"
    assert done.stdout.splitlines() == [results, "held back", "delivered"], done.stderr


def test_a_limit_on_file_size_is_an_error_and_the_next_build_equal(small, whole, tmp_path):
    done = subprocess.run(
        command(small, tmp_path / "out"),
        cwd=fakes.ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
        check=False,
    )
    assert done.returncode == 1 and f"{tmp_path}/out.building" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    go_on(small, tmp_path / "out")
    assert contents(tmp_path / "out") == whole[0]


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a small file system; skips where that is not allowed."""
    points = []

    def mount(options):
        point = tmp_path / f"disk{len(points)}"
        point.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(point)], capture_output=True
        )
        if done.returncode:
            pytest.skip("needs the right to mount a file system")
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", str(point)], check=True)


def test_a_full_disk_is_an_error_and_the_next_build_equal(larger, tmp_path, mounted):
    go_on(larger, tmp_path / "whole")
    point = mounted("size=6m")
    output = point / "out"
    filler = point / "filler"
    for kept in (5_500_000, 3_500_000):  # refused before it begins, then full on the way
        filler.write_bytes(bytes(kept))
        process = start(larger, output)
        if kept == 3_500_000:  # the look at the free space is over when the first chunk is there
            while process.poll() is None and not chunks_of(output):
                os.sched_yield()
            filler.write_bytes(bytes(5_000_000))
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 1 and "Traceback" not in errors
        assert "MB are needed and" in errors or "No space left on device" in errors
        assert str(point) in errors and not output.exists()
    filler.unlink()
    go_on(larger, output)
    assert contents(output) == contents(tmp_path / "whole")


def test_a_read_only_target_is_refused_before_anything_is_read(small, mounted):
    point = mounted("ro")
    process = start(small, point / "out")
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "Read-only file system" in errors
    assert "Traceback" not in errors and str(point) in errors


def test_a_mount_point_is_refused(small, mounted):
    point = mounted("size=1m")
    process = start(small, point)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "is a mount point" in errors


def chunks_of(output):
    """Returns the finished chunks of an unfinished build; the folder may vanish meanwhile."""
    return glob.glob(f"{output}.building/chunks/*.facts")


def alive(process):
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def workers_of(parent):
    """Returns the processes below `parent` that decode images."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as line:
                is_child = stat.read().rsplit(") ", 1)[1].split()[1] == str(parent)
                if is_child and "resource_tracker" not in line.read():
                    found.append(int(name))
        except (OSError, IndexError):
            continue
    return found

"""Sniffing: a file is what its bytes are, and costs no more than the limit, or is refused.

Run as a program, this file is the other process of the tests of memory and of damage:

    python -m tests.records.image.sniff_test fuzz 2000 1
"""

import io
import json
import pickle
import random
import re
import resource
import struct
import sys
import time
import zlib
from pathlib import Path

import PIL
import pytest
from PIL import Image, ImageFile

from records.image import decode, sniff
from tests import fakes
from tests.records.image.files import GOOD_JPEG, RED, bomb, chunk, flat, grey_tiff, png

POLICY = decode.ImagePolicy(size=16)
MAX_PEAK = 300  # MB a worker may take in all
MAX_SECONDS = 5  # of processor time for one file: a hang, not a measurement
NEW_PILLOW = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="older Pillow (Python 3.10) does it otherwise"
)


def test_content_decides_not_the_name():
    data = fakes.encoded(flat("RGB", RED), "GIF")
    assert decode.preprocess(data, POLICY).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\0\0\0\x18ftypisom", "MP4"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\xd8\xff\xf7", "JPEG-LS"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\1\0\1\0\x10\x10", "ICO"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n<svg>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
        (b"II*\0\x10\0\0\0CR\2\0", "CR2"),
        (b"P7\nWIDTH 1\n", "PAM"),
    ],
)
def test_other_formats_are_named(start, name):
    with pytest.raises(decode.ImageError, match=f"format_not_allowed: .*{name}"):
        decode.read(start + bytes(100), POLICY)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>image not available</html>", "not_an_image"),
        (fakes.encoded(fakes.pixels(0))[:20], "truncated"),
        (GOOD_JPEG[: len(GOOD_JPEG) // 2], "truncated"),
        (GOOD_JPEG[:-200], "truncated"),
        (bomb(12_000, 12_000), "too_many_pixels"),  # Pillow itself would only warn
        (bomb(60_000, 60_000), "too_many_pixels"),
        (bomb(2**31 - 1, 2**31 - 1), "too_many_pixels"),
        (bomb(100, 100), "truncated"),
        (fakes.encoded(flat("F", 0.5), "TIFF"), "unsupported_depth"),
        (GOOD_JPEG[:30], "truncated"),
        (GOOD_JPEG[:2], "not_an_image"),
        (GOOD_JPEG[:400] + bytes(600), "truncated"),  # as a disk leaves it
        (fakes.encoded(flat("RGB", RED), "ICO"), "format_not_allowed"),
        (b"BMW, Audi and other cars", "not_an_image"),
        (b"P5 is the fifth pixel", "damaged"),
        (b"P3 9 9 255\n" + b"#\n" * 2000, "metadata_too_large"),
        (GOOD_JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "unsupported_depth"),
        (png(9, 9, 5, 0, b""), "damaged"),  # no such depth
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "damaged"),
        (fakes.encoded(flat("P", 0), "GIF")[:30], "truncated"),
    ],
)
def test_bad_files_have_a_reason(data, reason):
    with pytest.raises(decode.ImageError) as caught:
        decode.read(data, POLICY)
    assert caught.value.reason == reason


def test_a_file_may_be_so_large(monkeypatch):
    png = fakes.encoded(fakes.pixels(0))
    monkeypatch.setattr(sniff, "MAX_FILE_BYTES", len(png) - 1)
    with pytest.raises(decode.ImageError, match=r"file_too_large: 1 MiB of PNG"):
        decode.read(png, POLICY)


def test_an_image_error_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(decode.ImageError("damaged", "for a test")))
    assert (error.reason, str(error)) == ("damaged", "damaged: for a test")


@pytest.mark.parametrize(
    ("data", "passes", "fails"),
    [
        (fakes.encoded(flat("RGB", RED, (1024, 1024))), 5, 4),  # 4 bytes a pixel
        (fakes.encoded(flat("RGBA", (0, 0, 0, 0), (1024, 1024))), 9, 8),
        (fakes.encoded(flat("L", 0, (1024, 1024))), 2, 1),
        (fakes.encoded(flat("L", 0, (1024, 1024)), "JPEG"), 1, None),  # decoded at an eighth
        (fakes.encoded(flat("L", 0, (1024, 1024)), "JPEG", progressive=True), 3, 2),
        (fakes.encoded(flat("RGB", RED, (1024, 1024)), "WEBP"), 17, 16),
    ],
)
def test_the_memory_limit_is_that_of_the_decoder(data, passes, fails):
    decode.read(data, decode.ImagePolicy(size=16, memory_limit=passes))
    if fails:
        message = f"too_many_pixels: 1024 x 1024 .* need .* MiB, limit {fails} MiB"
        with pytest.raises(decode.ImageError, match=message):
            decode.read(data, decode.ImagePolicy(size=16, memory_limit=fails))


def scans_apart():
    """A JPEG header whose first scan holds one component of three, as Pillow cannot write it."""
    data = fakes.encoded(flat("RGB", RED, (6000, 6000)), "JPEG")
    at = data.index(b"\xff\xda")
    return data[:at] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + data[at + 14 :]


def test_a_jpeg_in_several_scans_is_held_whole():
    with pytest.raises(decode.ImageError, match="too_many_pixels: 6000 x 6000 RGB need"):
        decode.read(scans_apart(), decode.ImagePolicy(size=16, memory_limit=100))


def test_a_jpeg_of_thousands_of_scans_is_refused():
    data = fakes.encoded(flat("L", 90, (64, 64)), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    with pytest.raises(decode.ImageError, match=r"damaged: 2.* scans, limit 100"):
        decode.read(data[:-2] + data[at:-2] * 2000 + data[-2:], POLICY)


def test_a_tiff_that_paints_a_picture_again_and_again_is_refused():
    data = grey_tiff(8, 1, bytes(64), num_strips=1000, rows=7)
    with pytest.raises(decode.ImageError, match=r"damaged: strips cover the picture 5\d\d times"):
        decode.read(data, POLICY)


def test_pillow_is_not_told_to_accept_truncation():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert Image.open(io.BytesIO(GOOD_JPEG)).format == "JPEG"


# --- Memory and damage, measured in a process of its own ---


def written(path, *parts):
    """Writes a file of bytes, bytes a number of times, and zeros where a part is their number."""
    with path.open("wb") as file:
        for part in parts:
            if isinstance(part, int):
                file.seek(part, io.SEEK_CUR)
            elif isinstance(part, tuple):
                file.writelines([part[0]] * part[1])
            else:
                file.write(part)
        file.truncate()
    return path


def png_with(kind, start=b""):
    """A PNG with a block of 100 MB before its pixels."""
    good = fakes.encoded(fakes.pixels(0))
    size = len(start) + 100_000_000
    return good[:33], size.to_bytes(4, "big") + kind + start, 100_000_000, bytes(4), good[33:]


def jpeg_with(marker, start):
    """A JPEG with 1600 segments of 64 KB, 100 MB in all."""
    segment = (b"\xff" + marker + b"\xff\xff" + start, 65533 - len(start))
    return GOOD_JPEG[:2], *(segment * 1600), GOOD_JPEG[2:]


def jpeg_of(width, height):
    at = GOOD_JPEG.index(b"\xff\xc0") + 5
    return GOOD_JPEG[:at] + struct.pack(">HH", height, width) + GOOD_JPEG[at + 4 :]


def tiff_with(tag):
    """A TIFF with a value of 100 MB."""
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries.append((tag, 1, 100_000_000, 8))
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *e) for e in entries
    )
    return b"II*\0" + struct.pack("<I", 100_000_008), 100_000_000, directory + bytes(4)


def inflated(text):
    """A small PNG with texts that grow a thousandfold and take four bytes a character."""
    body = b"k\0\1\0\0\0" + zlib.compress(text.encode())
    return png(8, 8, 8, 0, zlib.compress(bytes(72)), *[chunk(b"iTXt", body)] * 60)


def compressed(row, count):
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(row) for _ in range(count)), packer.flush()])


HOSTILE = {
    "20000 x 20000 PNG, 1 bit": ("too_many_pixels", bomb(20_000, 20_000)),
    "12000 x 12000 PNG, 1 bit": ("too_many_pixels", bomb(12_000, 12_000)),
    "60000 x 60000 PNG": ("too_many_pixels", bomb(60_000, 60_000, 8, 2)),
    "largest PNG": ("too_many_pixels", bomb(2**31 - 1, 2**31 - 1, 8, 6)),
    "1 x 100 million PNG": ("too_many_pixels", bomb(1, 100_000_000, 8)),
    "65500 x 65500 JPEG": ("too_many_pixels", jpeg_of(65500, 65500)),
    "30000 x 30000 JPEG": ("ok", jpeg_of(30_000, 30_000)),
    "65535 x 65535 GIF": ("too_many_pixels", b"GIF89a" + b"\xff" * 4 + b"\0\0\0,"
                          + bytes(4) + b"\1\0\1\0\0\2\2\x44\1\0;"),
    "16383 x 16383 WEBP": ("too_many_pixels", b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f"
                           + (16382 | 16382 << 14).to_bytes(4, "little") + bytes(12)),
    "30000 x 30000 BMP": ("too_many_pixels", b"BM" + bytes(8) + struct.pack(
        "<IIiiHH24x", 54, 40, 30_000, 30_000, 1, 24) + bytes(99)),
    "9999 x 9999 PPM": ("too_many_pixels", b"P6 9999 9999 255\n" + bytes(99)),
    "plain PPM": ("too_many_pixels", b"P3 2000 2000 255\n" + b"1 " * 99),
    "1 x 5000 PNG": ("ok", fakes.encoded(flat("RGB", RED, (1, 5000)))),
    "5000 x 1 PNG": ("ok", fakes.encoded(flat("RGB", RED, (5000, 1)))),
    "PNG of long texts": ("metadata_too_large", inflated("x" * 1_000_000 + "\U0001f600")),
    "JPEG with EXIF": ("metadata_too_large", *jpeg_with(b"\xe1", b"Exif\0\0")),
    "JPEG with ICC": ("metadata_too_large", *jpeg_with(b"\xe2", b"ICC_PROFILE\0\1\1")),
    "JPEG with comments": ("metadata_too_large", GOOD_JPEG[:2], (b"\xff\xfe\0\2", 4_000_000)),
    "JPEG with junk": ("metadata_too_large", GOOD_JPEG[:20], 100_000_000, GOOD_JPEG[20:]),
    "PNG with EXIF": ("metadata_too_large", *png_with(b"eXIf")),
    "PNG with ICC": ("metadata_too_large", *png_with(b"iCCP", b"x\0\0")),
    "PNG with zTXt": ("metadata_too_large", *png_with(b"zTXt", b"x\0\0")),
    "PNG with iTXt": ("metadata_too_large", *png_with(b"iTXt", b"x\0\0\0\0\0")),
    "PNG with a private block": ("metadata_too_large", *png_with(b"prVt")),
    "GIF with a comment": ("metadata_too_large", b"GIF89a\1\0\1\0\0\0\0!\xfe",
                           (b"\xff" + b"x" * 255, 400_000)),
    "WEBP with EXIF": ("file_too_large", b"RIFF\xff\xff\xff\5WEBPVP8X", 100_000_000),
    "TIFF with ICC": ("metadata_too_large", *tiff_with(34675)),
    "TIFF with layers": ("metadata_too_large", *tiff_with(37724)),
    "TIFF with millions of strips": ("metadata_too_large", *tiff_with(324)),
    "PPM with a comment": ("metadata_too_large", b"P6 #", (b"x" * 1000, 100_000)),
    "PNG with 100 MB after its pixels": ("ok", fakes.encoded(fakes.pixels(0)), 100_000_000),
}  # fmt: skip

# What is just accepted: nearly all that the limit allows.
LARGEST = {
    "PNG, 14000 x 14000 grey": lambda: png(14_000, 14_000, 8, 0, compressed(bytes(14_001), 14_000)),
    "PNG, 10000 x 10000, 1 bit": lambda: png(
        10_000, 10_000, 1, 0, compressed(bytes(1251), 10_000)
    ),
    "PNG, 5000 x 5000 RGBA": lambda: png(5000, 5000, 8, 6, compressed(bytes(20_001), 5000)),
    "PNG, 4500 x 4500, palette and alpha": lambda: png(
        4500, 4500, 8, 3, compressed(bytes(4501), 4500),
        chunk(b"PLTE", bytes(6)), chunk(b"tRNS", b"\x80\x70"),
    ),
    "JPEG, 10000 x 10000 grey": lambda: fakes.encoded(flat("L", 90, (10_000, 10_000)), "JPEG"),
    "JPEG, 4900 x 4900 CMYK, progressive": lambda: fakes.encoded(
        flat("CMYK", (9, 99, 33, 5), (4900, 4900)), "JPEG", progressive=True
    ),
    "WEBP, 3500 x 3500": lambda: fakes.encoded(
        flat("RGB", RED, (3500, 3500)), "WEBP", lossless=True, method=0, quality=0
    ),
    "TIFF, 4000 x 4000 in one strip": lambda: fakes.encoded(
        flat("RGB", RED, (4000, 4000)), "TIFF", compression="tiff_lzw", tiffinfo={278: 4000}
    ),
}  # fmt: skip


def run_here(*arguments):
    """Runs this file as a program and returns what it says."""
    finished = fakes.run_module("tests.records.image.sniff_test", *arguments)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads(finished.stdout)


def assert_modest(said):
    assert said["peak"] < MAX_PEAK
    assert max(said["seconds"].values()) < MAX_SECONDS


@pytest.mark.slow
@NEW_PILLOW
def test_hostile_files_are_refused_in_little_memory(tmp_path):
    paths = [written(tmp_path / name, *parts) for name, (_, *parts) in HOSTILE.items()]
    said = run_here("read", *paths)
    assert said["outcomes"] == {name: reason for name, (reason, *_) in HOSTILE.items()}
    assert_modest(said)


@pytest.mark.slow
def test_the_largest_files_that_are_read_need_no_more(tmp_path):
    paths = [written(tmp_path / name, make()) for name, make in LARGEST.items()]
    said = run_here("read", *paths)
    assert said["outcomes"] == dict.fromkeys(LARGEST, "ok")
    assert_modest(said)


def test_damage_of_every_kind_is_an_image_error():
    said = run_here("fuzz", 400, 0)
    assert sum(said["outcomes"].values()) == 400
    assert said["outcomes"].keys() >= {"ok", "damaged", "truncated"}
    assert_modest(said)


def seeds():
    """Small files of every format and most of its kinds."""
    picture = Image.fromarray(fakes.pixels(7, 96)).resize((96, 72))
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.convert("L"))
    grey = picture.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"save_all": True, "append_images": [alpha.rotate(90), alpha.rotate(180)]}
    kinds = [
        (picture, "JPEG", {"exif": exif}),
        (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (grey.resize((400, 300)), "JPEG", {"restart_marker_blocks": 4}),
        (picture, "MPO", {"save_all": True, "append_images": [picture]}),
        (picture, "PNG", {"exif": exif}),
        (alpha, "PNG", more),
        (picture.quantize(16), "PNG", {"transparency": 3}),
        (alpha.convert("LA"), "PNG", {}),
        (flat("I;16", 3000), "PNG", {}),
        (picture, "GIF", more),
        (grey, "GIF", {"transparency": 3}),
        (picture, "WEBP", {}),
        (alpha, "WEBP", {"lossless": True}),
        (picture, "WEBP", more),
        (picture, "TIFF", {"exif": exif}),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
        (picture, "TIFF", {"compression": "jpeg"}),
        (alpha, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (picture.convert("1"), "TIFF", {"compression": "group4"}),
        (picture.quantize(16), "TIFF", more),
        (picture, "BMP", {}),
        (picture.quantize(16), "BMP", {}),
        (picture, "PPM", {}),
    ]
    plain = b"P3 6 6 255\n" + b" ".join(b"%d" % (7 * n % 256) for n in range(108))
    return [*(fakes.encoded(p, name, **options) for p, name, options in kinds), plain]


def mutated(data, others, rng):
    """Returns a file with bytes flipped, cut off, put in, or from another file."""
    data = bytearray(data)
    # Most of what can go wrong is in the header.
    places = [rng.randrange(min(len(data), rng.choice((64, 512, len(data))))) for _ in range(9)]
    kind = rng.randrange(5)
    if kind == 0:
        for at in places[: rng.randint(1, 9)]:
            data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[places[0] :]
    elif kind == 2:
        del data[places[0] : places[0] + rng.randint(1, 99)]
    elif kind == 3:
        extreme = rng.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\1\0\0"))
        data[places[0] : places[0] + 4] = extreme
    else:
        other = rng.choice(others)
        at = rng.randrange(len(other))
        data[places[0] :] = other[at:]
    return bytes(data)


def peak():
    """The most memory this process ever had, in MB; ru_maxrss would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def outcome_of(data, policy, box=None):
    started = time.process_time()
    try:
        decode.read(data, policy, box)
        return "ok", time.process_time() - started
    except decode.ImageError as error:
        return error.reason, time.process_time() - started


def read_all(paths):
    outcomes, seconds = {}, {}
    for path in map(Path, paths):
        data = path.read_bytes()
        outcomes[path.name], seconds[path.name] = outcome_of(data, decode.ImagePolicy())
        del data
    return {"outcomes": outcomes, "seconds": seconds, "peak": peak()}


def fuzz(count, seed):
    files = seeds()
    before = peak()
    outcomes, slowest = {}, 0.0
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        policy = decode.ImagePolicy(size=32, resize=rng.choice(decode.RESIZE_MODES))
        box = rng.choice((None, (10, 10, 60, 50)))
        result, seconds = outcome_of(mutated(rng.choice(files), files, rng), policy, box)
        outcomes[result] = outcomes.get(result, 0) + 1
        slowest = max(slowest, seconds)
    said = {"outcomes": outcomes, "seconds": {"slowest": slowest}}
    return {**said, "peak": peak(), "growth": peak() - before}


def limit_this_process():
    """Stops it when it hangs or takes memory without end."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (250, 250))


if __name__ == "__main__":
    limit_this_process()
    task, *arguments = sys.argv[1:]
    said = read_all(arguments) if task == "read" else fuzz(*map(int, arguments))
    print(json.dumps(said))

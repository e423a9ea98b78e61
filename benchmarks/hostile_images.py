"""Whether damaged image files end in an image or in one sentence, whatever is wrong with them.

    python -m benchmarks.hostile_images [--mutations 5000] [--seed 0] [FOLDER …]

Files of every usual format are changed at random (bits, lengths, cuts, pieces of one file in another; PNG's checksums
are put right, so that the change reaches the decoder), and every file below the folders is read as it is. Each is read
as a photo, as an image in sRGB and as a mask, in a process that may die: a crash, a file that takes more than
--seconds, and any error other than `InvalidInput` or `MissingDependency` in one sentence counts as unhandled. Prints
the counts and each such file; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import collections
import io
import random
import signal
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from tqdm import tqdm

from stableviton_sdk import InvalidInput, MissingDependency
from stableviton_sdk.images import load_image, load_mask, load_photo

SIZE = (97, 131)
READERS: dict[str, Callable[[bytes], Image.Image]] = {
    "photo": load_photo,
    "image": lambda data: load_image(data, srgb=True),
    "mask": load_mask,
}
LENGTHS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MESSAGE_LENGTH = 700  # characters of a sentence
PNG_START = b"\x89PNG\r\n\x1a\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="files to read as they are")
    parser.add_argument("--mutations", type=int, default=5000, metavar="N", help="changed files (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="that one file may take (%(default)s)")
    arguments = parser.parse_args()
    found = sorted(path for folder in arguments.folders for path in folder.rglob("*") if path.is_file())
    cases = [(str(path), path.read_bytes()) for path in found]
    cases += mutations(range(arguments.mutations), arguments.seed)
    outcomes: collections.Counter[str] = collections.Counter()
    unhandled = []
    for name, outcome in tqdm(read_all(cases, arguments.seconds), total=len(cases)):
        kind = outcome.partition(":")[0]
        outcomes[kind] += 1
        if kind == "unhandled":
            unhandled.append(f"{name}: {outcome}")
    counts = ", ".join(f"{count} {kind}" for kind, count in outcomes.most_common())
    print(f"{len(cases)} files: {counts}")
    print("\n".join(unhandled))
    return bool(unhandled)


def read_all(cases: list[tuple[str, bytes]], seconds: int) -> Iterator[tuple[str, str]]:
    """Name and outcome of each file; the process that reads them is replaced when one kills it."""
    place = 0
    while place < len(cases):
        with ProcessPoolExecutor(1) as pool:
            for name, data in cases[place:]:
                place += 1
                try:
                    yield name, pool.submit(outcome_within, data, seconds).result()
                except BrokenProcessPool:
                    yield name, f"unhandled: it crashed the process, or took more than {seconds} seconds"
                    break


def outcome_within(data: bytes, seconds: int) -> str:
    """The outcome of reading a file; the process ends if that takes too long."""
    signal.alarm(seconds)  # whose default is to end the process, which an endless loop in C can't hold up
    try:
        return read_outcome(data)
    finally:
        signal.alarm(0)


def read_outcome(data: bytes) -> str:
    """What reading a file ends in: "image", "refused", or "unhandled" and why."""
    results = set()
    for reader, read in READERS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = read(data)
                image.tobytes()
            results.add("image")
        except (InvalidInput, MissingDependency) as error:
            if problem := sentence_problem(str(error)):
                return f"unhandled: as {reader} {problem}: {error}"
            results.add("refused")
        except Exception as error:
            return f"unhandled: as {reader} {type(error).__name__}: {error}"
    return "image" if "image" in results else "refused"


def sentence_problem(text: str) -> str | None:
    """Why a message isn't one sentence; None if it is one."""
    if not text.endswith((".", "!")):
        return "its message doesn't end as a sentence does"
    if "\n" in text or "Traceback" in text or not text.isprintable():
        return "its message isn't one line of text"
    return "its message is too long" if len(text) > MESSAGE_LENGTH else None


def mutations(numbers: Iterable[int], seed: int) -> Iterator[tuple[str, bytes]]:
    """Changed files, each with a name that tells how to make it again.

    Args:
        numbers (`Iterable[int]`): Which ones, from 0; consecutive ones are of different formats.
        seed (`int`): Of the changes.
    """
    whole = whole_files()
    names = sorted(whole)
    for number in numbers:
        chance = random.Random(f"{seed} {number}")
        name = names[number % len(names)]
        data = bytearray(whole[name])
        changes = [chance.choice(CHANGES) for _ in range(chance.choice((1, 1, 2, 4, 16)))]
        for change in changes:
            change(data, chance)
        if chance.random() < 0.1:
            other = whole[chance.choice(names)]
            data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other)) :]
        if name.startswith("PNG") and chance.random() < 0.7:
            data = bytearray(with_right_checksums(bytes(data)))
        yield f"mutation {number} of {name}", bytes(data)


def whole_files() -> dict[str, bytes]:
    """Sound files of the usual formats, modes and compressions, by a name that begins with the format."""
    noise = np.random.default_rng(0)
    small = noise.integers(0, 256, (9, 7, 3), np.uint8)
    image = Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC)
    alpha = image.copy()
    alpha.putalpha(image.getchannel("G"))
    grey = image.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    tags = {"exif": exif.tobytes(), "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    frames = {"save_all": True, "append_images": [image.rotate(90 * turn) for turn in range(1, 4)]}
    made = {
        "JPEG": (image, tags),
        "JPEG progressive": (image, {"progressive": True, "subsampling": 2}),
        "JPEG grey": (grey, {}),
        "JPEG inks": (image.convert("CMYK"), {}),
        "PNG": (image, tags),
        "PNG alpha": (alpha, {}),
        "PNG palette": (image.quantize(16), {"transparency": 3}),
        "PNG 16 bit": (deep, {}),
        "PNG one bit": (grey.convert("1"), {}),
        "PNG animated": (image, frames),
        "WEBP": (image, tags),
        "WEBP lossless": (alpha, {"lossless": True}),
        "WEBP animated": (image, frames),
        "AVIF": (image, {"speed": 10, **tags}),
        "AVIF alpha": (alpha, {"speed": 10}),
        "GIF": (image.quantize(32), {"transparency": 1}),
        "GIF animated": (image, frames),
        "TIFF": (image, tags),
        "TIFF LZW": (image, {"compression": "tiff_lzw"}),
        "TIFF deflate": (alpha, {"compression": "tiff_adobe_deflate"}),
        "TIFF JPEG": (image, {"compression": "jpeg"}),
        "TIFF packbits": (grey, {"compression": "packbits"}),
        "TIFF fax": (grey.convert("1"), {"compression": "group4"}),
        "TIFF float": (grey.convert("F"), {}),
        "TIFF inks": (image.convert("CMYK"), {}),
        "BMP": (image, {}),
        "BMP palette": (image.quantize(200), {}),
        "BMP one bit": (grey.convert("1"), {}),
        "MPO": (image, frames),
        "JPEG2000": (image, {}),
        "PPM": (image, {}),
        "TGA": (alpha, {"compression": "tga_rle"}),
        "ICO": (alpha, {}),
    }
    files = {}
    for name, (source, options) in made.items():
        stream = io.BytesIO()
        source.save(stream, name.split()[0], **options)
        files[name] = stream.getvalue()
    return files


def flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 4, 32))):
        if data:
            data[_place(data, chance)] ^= 1 << chance.randrange(8)


def set_number(data: bytearray, chance: random.Random) -> None:
    """Overwrite what may be a length, a count or an offset."""
    width, order = chance.choice(("B", "H", "I")), chance.choice("<>")
    value = chance.choice(LENGTHS) & (256 ** struct.calcsize(width) - 1)
    place = _place(data, chance)
    number = struct.pack(order + width, value)
    data[place : place + len(number)] = number


def cut_off(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def take_out(data: bytearray, chance: random.Random) -> None:
    place = _place(data, chance)
    del data[place : place + chance.choice((1, 2, 4, 64, 1024))]


def repeat(data: bytearray, chance: random.Random) -> None:
    place, length = _place(data, chance), chance.choice((1, 4, 64, 4096))
    data[place:place] = data[place : place + length]


def fill(data: bytearray, chance: random.Random) -> None:
    place, length = _place(data, chance), chance.choice((4, 16, 256))
    data[place : place + length] = bytes([chance.choice((0, 255))]) * length


CHANGES = (flip_bits, flip_bits, set_number, set_number, cut_off, take_out, repeat, fill)


def _place(data: bytearray, chance: random.Random) -> int:
    """A place in a file, half of the time in its head, where decoders read lengths."""
    return chance.randrange(max(1, min(len(data), 600) if chance.random() < 0.5 else len(data)))


def with_right_checksums(data: bytes) -> bytes:
    """A PNG whose checksums fit its chunks, as far as those can be told apart."""
    if not data.startswith(PNG_START):
        return data
    parts, place = [PNG_START], len(PNG_START)
    while place + 12 <= len(data):
        length = struct.unpack_from(">I", data, place)[0]
        content = data[place + 4 : place + 8 + length]
        if len(content) < 4 + length:
            break
        parts.append(data[place : place + 4] + content + struct.pack(">I", zlib.crc32(content)))
        place += 12 + length
    return b"".join(parts) + data[place:]


if __name__ == "__main__":
    sys.exit(main())

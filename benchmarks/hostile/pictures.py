"""Files that call themselves pictures: cut, inflated, disguised, or only odd."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from benchmarks.hostile.values import MARKUP

_LOSSY = ("JPEG", "WEBP", "AVIF")


@dataclass(frozen=True)
class File:
    """A file that somebody sends.

    Attributes:
        kind: what it is an example of.
        name: by which it is uploaded.
        readable: whether it is a picture, so that it has to be answered; None where either will do.
    """

    kind: str
    name: str
    content: bytes
    readable: bool | None = False


def files() -> Iterator[File]:
    """All of them, made one after the other: some are large."""
    yield from _bombs()
    yield from _cut()
    yield from _disguised()
    yield from _inflated()
    yield from _animated()
    yield from _odd()
    yield from _phones()


def saved(image: Image.Image, format: str, **settings) -> bytes:
    """The file of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def photo(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """A picture with something in it, the same every time."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([x, y, 255 - x], axis=2).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes, *, depth: int = 8, colour: int = 0, between: bytes = b"") -> bytes:
    """A PNG as its parts say, whether they fit together or not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _bombs() -> Iterator[File]:
    nothing = zlib.compress(bytes(1000))
    for side in (5001, 13_000, 60_000, 2**31 - 1):
        yield File("decompression bomb", f"{side}.png", png(side, side, nothing))
    inflating = zlib.compressobj(9)
    full = b"".join(inflating.compress(bytes(2**20)) for _ in range(200)) + inflating.flush()
    yield File("decompression bomb", "long.png", png(64, 64, full), readable=None)  # 200 MB where 4 kB are wanted
    yield File(
        "decompression bomb", "text.png", png(8, 8, nothing, between=chunk(b"zTXt", b"a\0\0" + full)), readable=None
    )
    yield File(
        "decompression bomb", "icc.png", png(8, 8, nothing, between=chunk(b"iCCP", b"a\0\0" + full)), readable=None
    )
    for format in ("JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        side = 9000 if format in ("JPEG", "GIF") else 5001
        yield File("decompression bomb", f"large.{format.lower()}", saved(Image.new("L", (side, side)), format))
    gif = bytearray(saved(photo(mode="P"), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    yield File("decompression bomb", "screen.gif", bytes(gif))
    bmp = bytearray(saved(photo(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    yield File("decompression bomb", "claims.bmp", bytes(bmp))


def boundaries(format: str, content: bytes) -> list[int]:
    """Where the parts of a file begin."""
    found, at = [], 0
    if format == "PNG":
        at = 8
        while at < len(content):
            found += [at, at + 8]
            at += 12 + struct.unpack_from(">I", content, at)[0]
    elif format == "JPEG":
        at = 2
        while at < len(content) - 4 and content[at] == 0xFF and content[at + 1] != 0xDA:
            found += [at, at + 4]
            at += 2 + struct.unpack_from(">H", content, at + 2)[0]
        found += [at, at + 4, (at + len(content)) // 2]
    elif format == "WEBP":
        found, at = [4, 8], 12
        while at < len(content):
            size = struct.unpack_from("<I", content, at + 4)[0]
            found += [at, at + 8, at + 8 + size // 2]
            at += 8 + size + size % 2
    elif format == "AVIF":
        while at < len(content):
            found += [at, at + 8, at + 16]
            at += max(struct.unpack_from(">I", content, at)[0], 8)
    elif format == "TIFF":
        directory = struct.unpack_from("<I", content, 4)[0]
        count = struct.unpack_from("<H", content, directory)[0]
        found = [4, 8, *(directory + 2 + 12 * i for i in range(count + 1))]
    else:
        found = [6, 10, 13, 13 + 3 * 128, *range(13 + 3 * 256, len(content), max(len(content) // 8, 1))]
    return [cut for cut in sorted({*found, len(content) - 1}) if 0 < cut < len(content)]


def _cut() -> Iterator[File]:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("comment", "x" * 100)
    exif = Image.Exif()
    exif[0x0112] = 6
    settings = {
        "PNG": {"pnginfo": texts}, "JPEG": {"exif": exif, "progressive": True}, "WEBP": {"exif": exif}, "AVIF": {"exif": exif},
        "GIF": {}, "TIFF": {}, "BMP": {},
    }  # fmt: skip
    for format, more in settings.items():
        whole = saved(photo(mode="P" if format == "GIF" else "RGB"), format, **more)
        for cut in boundaries(format, whole):
            yield File(f"cut {format}", f"cut-{cut}.{format.lower()}", whole[:cut], readable=None)
    for format in ("PNG", "JPEG", "WEBP"):
        whole = bytearray(saved(photo(), format))
        for place in range(12, len(whole), max(len(whole) // 12, 1)):
            turned = bytearray(whole)
            turned[place] ^= 0xFF
            yield File("a byte turned", f"turned-{place}.{format.lower()}", bytes(turned), readable=None)


def _disguised() -> Iterator[File]:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" onload="window.hostile=1"><script>window.hostile=1</script>{MARKUP}</svg>'
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../../x.html", svg)
    small = {format: saved(photo(mode="P" if format == "GIF" else "RGB"), format) for format in ("GIF", "JPEG", "PNG")}
    no_pictures = {
        "picture.png": svg.encode(), "page.jpg": f"<html>{svg}</html>".encode(), "postscript.png": b"%!PS-Adobe-3.0 EPSF\n%%EOF",
        "pdf.png": b"%PDF-1.7\n1 0 obj", "archive.webp": archive.getvalue(), "none.png": b"", "zeros.gif": bytes(1000),
        "elf.png": b"\x7fELF" + bytes(100), "pickle.png": b"\x80\x04cos\nsystem\n", "playlist.png": b"#EXTM3U\nhttp://127.0.0.1/",
        "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(100), "psd.png": b"8BPS" + bytes(100),
    }  # fmt: skip
    for name, content in no_pictures.items():
        yield File("no picture", name, content)
    for format, content in small.items():
        for tail, what in ((svg.encode(), "html"), (archive.getvalue(), "zip"), (b"<?php system(0); ?>", "php")):
            yield File("polyglot", f"{format.lower()}.{what}", content + tail, readable=True)
    yield File(
        "polyglot", "comment.svg", small["GIF"][:-1] + b"!\xfe\x04" + MARKUP[:4].encode() + b"\0;", readable=None
    )


def _inflated() -> Iterator[File]:
    texts = PngImagePlugin.PngInfo()
    for i in range(200):
        texts.add_text(f"key {i}", MARKUP * 100)
    yield File("much beside the pixels", "texts.png", saved(photo(), "PNG", pnginfo=texts), readable=None)
    yield File("much beside the pixels", "xmp.webp", saved(photo(), "WEBP", xmp=b"<x>" * 2_000_000), readable=None)
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        yield File(
            "much beside the pixels",
            f"icc.{format.lower()}",
            saved(photo(), format, icc_profile=b"icc!" * 500_000),
            readable=None,
        )
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = MARKUP * 500, 6
    yield File("much beside the pixels", "exif.jpg", saved(photo(), "JPEG", exif=exif), readable=True)
    broken = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff\xff\xff\xff\xff" * 100
    for format in ("JPEG", "PNG", "WEBP"):
        yield File(
            "much beside the pixels",
            f"damaged-exif.{format.lower()}",
            saved(photo(), format, exif=broken),
            readable=True,
        )
    jpeg = saved(photo(), "JPEG")
    comments = b"".join(b"\xff\xfe\xff\xff" + bytes(65533) for _ in range(150))
    yield File("much beside the pixels", "comments.jpg", jpeg[:2] + comments + jpeg[2:], readable=True)


def _animated() -> Iterator[File]:
    frames = [photo().rotate(angle) for angle in range(0, 90, 3)]
    for format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        content = saved(frames[0], format, save_all=True, append_images=frames[1:])
        yield File("animated", f"film.{format.lower()}", content, readable=True)
        yield File("animated", f"half.{format.lower()}", content[: len(content) // 2], readable=None)


def _odd() -> Iterator[File]:
    for width, height in ((1, 100_000), (100_000, 1), (1, 1), (2, 65_000)):
        yield File("odd shape", f"{width}x{height}.png", saved(photo(width, height), "PNG"), readable=True)
    for mode, format in (
        ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("L", "JPEG"), ("1", "PNG"), ("1", "TIFF"), ("P", "PNG"), ("LA", "PNG"),
        ("RGBA", "PNG"), ("RGBA", "WEBP"), ("I;16", "PNG"), ("YCbCr", "JPEG"), ("LAB", "TIFF"), ("RGBA", "AVIF"),
    ):  # fmt: skip
        image = Image.new("I;16", (64, 48), 40_000) if mode == "I;16" else photo(mode=mode)
        yield File("odd mode", f"{mode.replace(';', '-')}.{format.lower()}", saved(image, format), readable=True)
    for mode, value in (("F", 0.5), ("F", float("nan")), ("I", -5), ("I", 2**31 - 1)):
        yield File("odd mode", f"{mode}{value}.tiff", saved(Image.new(mode, (64, 48), value), "TIFF"), readable=None)
    for transparency in (0, bytes(256)):
        yield File("odd mode", "clear.png", saved(photo(mode="P"), "PNG", transparency=transparency), readable=True)
    for orientation in (*range(1, 9), 0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield File("orientation", f"{orientation}.jpg", saved(photo(), "JPEG", exif=exif), readable=True)


def _phones() -> Iterator[File]:
    for width, height in ((6000, 4000), (8064, 6048)):
        yield File("a phone's photo", f"{width}.jpg", saved(photo(width, height), "JPEG", quality=85), readable=True)
    yield File("a phone's photo", "photo.avif", saved(photo(4000, 3000), "AVIF", speed=10), readable=True)
    for brand in (b"heic", b"heix", b"mif1", b"hevc"):
        yield File(
            "a phone's photo", "photo.heic", b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + brand + b"mif1" + bytes(1000)
        )

r"""What a picture file is: its endings, how it begins, what decodes it and what that takes. A row for each format.

Folders and archives find pictures by it, `images` opens them by it, and the README's table is compared with it.
No decoder is imported here.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

HEAD = 4096  # bytes that tell formats apart


class Format(NamedTuple):
    """One format. Without a `plugin` it is one that people have among pictures and that vit does not open."""

    name: str  # Pillow's name, where it has one
    endings: str
    magic: bytes  # regular expression of how its files begin
    plugin: str | None = None  # the module that registers its decoder with Pillow; ours have a function, `opened`
    extra: str | None = None  # the optional dependency that brings the plug-in
    memory: int = 12  # bytes for each pixel, at most, until the picture is upright and RGB (measured, of every mode)
    stored: int = 16  # bytes of the file for each pixel, at most
    read: int = 256  # bytes that a read counts for, however few it asks for: it takes about as long as reading so many
    whole: bool = False  # the decoder takes everything that is in the file


# `memory`: a JPEG's is for a progressive one, whose coefficients are kept; most decoders keep one or two copies of what
# they give to Pillow. `stored` and `read` are for `bounded`; BMP and PPM may be read a pixel at a time, or a byte.
#
# An ISO media file names its brands right after `ftyp`; AVIF and HEIF may both call themselves mif1 first. "BM" alone
# also begins words: a BMP is known by the length of the header that follows its own of 14 bytes.
RAW = Format(
    "RAW", ".nef .nrw .cr2 .cr3 .crw .arw .sr2 .dng .raf .orf .rw2 .pef .srw .3fr .iiq",
    rb"II\*\0.{4}(?:CR\x02|IIII)|MM\0\*.{4}MMMM|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|.{4}ftypcrx |.{6}HEAPCCDR",
    "vitcli.pictures.raw", "raw", memory=32, whole=True,
)  # fmt: skip
AVIF = rb"\0\0..ftyp(?:avi[fs]|(?:mif1|msf1)....(?:....){0,6}avi[fs])"
FORMATS = (
    Format("JPEG", ".jpg .jpeg .jpe .jfif .mpo", rb"\xff\xd8\xff", "PIL.JpegImagePlugin"),
    Format("PNG", ".png .apng", rb"\x89PNG\r\n\x1a\n(?!.{4}CgBI)", "PIL.PngImagePlugin"),
    Format("WEBP", ".webp", rb"RIFF....WEBP", "PIL.WebPImagePlugin", memory=24, whole=True),
    Format("GIF", ".gif", rb"GIF8[79]a", "PIL.GifImagePlugin"),
    Format("BMP", ".bmp .dib", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "PIL.BmpImagePlugin", read=8),
    RAW,  # the rest of which begin as TIFFs do: `tiff` tells them by their directories
    Format("TIFF", ".tif .tiff", rb"II[*+]\0|MM\0[*+]", "vitcli.pictures.tiff", memory=16, whole=True),
    Format("PPM", ".ppm .pgm .pbm .pnm", rb"P[1-6f][\s#]", "PIL.PpmImagePlugin", memory=16, stored=32, read=32),
    Format("AVIF", ".avif", AVIF, "PIL.AvifImagePlugin", memory=24, whole=True),
    Format(
        "HEIF", ".heic .heif .hif", rb"....ftyp(?:he[iv][cxms]|mif1|msf1)", "pillow_heif.HeifImagePlugin", "heic",
        memory=24, whole=True,
    ),
    Format("JXL", ".jxl", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "pillow_jxl", "jxl", memory=24, whole=True),
)  # fmt: skip

# Named, so that people know: each has a row that says so, rather than being passed over in silence.
OTHERS = (
    Format("CgBI", "", rb"\x89PNG\r\n\x1a\n.{4}CgBI"),  # how Xcode packs the PNGs of an app
    Format("PDF", ".pdf", rb"%PDF-"),
    Format("PostScript", ".eps", rb"%!PS|\xc5\xd0\xd3\xc6"),
    Format("SVG", ".svg", rb"(?:\xef\xbb\xbf)?\s*<(?:svg\b|\?xml.*<svg\b|!DOCTYPE svg)"),
    Format("JPEG 2000", ".jp2 .j2k .jpf .jpx", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    Format("ICO", ".ico", rb"\0\0[\x01\x02]\0[^\0]\0"),
    Format("ICNS", ".icns", rb"icns"),
    Format("DDS", ".dds", rb"DDS "),
    Format("SGI", ".sgi", rb"\x01\xda[\x00\x01][\x01\x02]"),
    Format("QOI", ".qoi", rb"qoif"),
    Format("Photoshop", ".psd", rb"8BPS"),
    Format("PCX", ".pcx", rb"\x0a[\x00-\x05]\x01[\x01\x02\x04\x08]"),
    Format("Targa", ".tga", rb"(?!)"),  # it has no beginning of its own
    Format("OpenEXR", "", rb"\x76\x2f\x31\x01"),
    Format("video", "", rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI "),
)

# Archives, by their contents; those that vit opens are known by their names, before anybody looks into them.
PACKED = (
    Format("7z", "", rb"7z\xbc\xaf\x27\x1c"),
    Format("rar", "", rb"Rar!\x1a\x07"),
    Format("gzip", "", rb"\x1f\x8b\x08"),
    Format("bzip2", "", rb"BZh[1-9]1AY&SY"),
    Format("xz", "", rb"\xfd7zXZ\0"),
    Format("zstd", "", rb"\x28\xb5\x2f\xfd"),
    Format("zip", "", rb"PK\x03\x04"),
)

ENDINGS = frozenset(ending for form in (*FORMATS, *OTHERS) for ending in form.endings.split())


def is_picture(name: str) -> bool:
    """Whether a file of this name is taken for a picture, also for one that needs a plug-in or is not opened."""
    return os.path.splitext(name)[1].lower() in ENDINGS  # noqa: PTH122  (a name, not a path: nothing is normalised)


def recognised(head: bytes, formats: tuple[Format, ...] = FORMATS) -> Format | None:
    """The format of a file that begins with these bytes, up to HEAD of them; None if it is none of `formats`."""
    # compiled, and kept, when first needed: a run over JPEGs compiles one
    return next((form for form in formats if re.match(form.magic, head, re.DOTALL)), None)

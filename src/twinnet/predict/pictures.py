"""Any picture as input of a network of images: its size and channels, bright on dark, framed as its data.

A picture of the network's size is read pixel by pixel. Any other is treated as the photographs of Fashion-MNIST were
(Xiao, Rasul and Vollgraf 2017, section 2): edges close to the background are trimmed, the longest side fills the frame,
the object is centred, and a bright background is inverted.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from twinnet.core.errors import DataError, one_line_text

CLOSE = 0.05 * 255  # to the background, as in Fashion-MNIST
WORKING_SIZE = 512  # pixels of the longest side: enough to find the object, and it averages the noise of a camera
BRIGHT = 127


@dataclass(frozen=True)
class InputImage:
    """`pixels` is (height, width, channels), uint8, 0 to 255; `size` is that of the file, width and height."""

    pixels: np.ndarray
    size: tuple[int, int]
    is_inverted: bool


def read(path: Path, shape: tuple[int, ...], margin: int = 0, invert: bool | None = None) -> InputImage:
    """Return the picture in the file `path` for a network of `shape` (height, width, channels), as `to_input` makes it.

    The first one if the file holds several. Raises DataError, without the path, if it is not a whole picture.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "not a plain file" if path.exists() else "no such file"
        raise DataError(f"expected a picture; received {found}")
    if not path.stat().st_size:
        raise DataError("expected a picture; received an empty file")
    try:
        with warnings.catch_warnings(action="ignore"):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_input(image, shape, margin, invert)
    except UnidentifiedImageError as error:
        raise DataError("expected a picture; received a format that Pillow does not read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"expected at most {Image.MAX_IMAGE_PIXELS:,} pixels; received more; make it smaller"
        ) from error
    except DataError:
        raise
    except Exception as error:  # decoders raise anything on a broken file
        raise DataError(f"expected a whole picture; received {one_line_text(error)}") from error


def to_input(image: Image.Image, shape: tuple[int, ...], margin: int = 0, invert: bool | None = None) -> InputImage:
    """Return `image` in the `shape` (height, width, channels), `margin` pixels left free around the object.

    `invert` None inverts grey pictures whose border is mostly bright. Colours carry meaning: those pictures are neither
    inverted nor trimmed. Raises DataError for a picture of one colour.
    """
    height, width, channels = shape
    size = image.size
    image = _to_uint8(ImageOps.exif_transpose(image))
    image = _flatten_alpha(image, max(WORKING_SIZE, *shape)).convert("L" if channels == 1 else "RGB")
    if all(low == high for low, high in np.reshape(image.getextrema(), (-1, 2))):
        raise DataError("expected a picture of something; received one colour")
    inverted = channels == 1 and _background(image)[0] > BRIGHT if invert is None else invert
    if inverted:
        image = ImageOps.invert(image)
    if image.size != (width, height):
        image = _center(image, (width, height), margin)
    return InputImage(np.asarray(image).reshape(shape), size, inverted)


def _center(image: Image.Image, size: tuple[int, int], margin: int) -> Image.Image:
    """Return the object in the middle of `size`, as large as the `margin` around it allows."""
    background = _background(image)
    if image.mode == "L":
        level = background[0]
        differs = np.abs(np.asarray(image) - float(level)) > CLOSE
        rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            image = image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        if level <= BRIGHT:  # nearly black becomes black, as in the data
            image = image.point([round(max(value - level, 0) * 255 / (255 - level)) for value in range(256)])
            background = (0,)
    scale = min((side - 2 * margin) / old for side, old in zip(size, image.size, strict=True))
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))  # a thin stroke stays visible
    image = image.resize(inner, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    framed = Image.new(image.mode, size, background)
    framed.paste(image, (_offset(image, 0, size[0], margin > 0), _offset(image, 1, size[1], margin > 0)))
    return framed


def _offset(image: Image.Image, side: int, length: int, mass: bool) -> int:
    """Return the start of `image` along a side of the frame, whose middle is its middle or its centre of mass."""
    free = length - image.size[side]
    if not mass:
        return (free + 1) // 2
    weights = np.asarray(image.convert("L"), float).sum(axis=side)
    centre = np.average(np.arange(len(weights)), weights=weights) if weights.any() else len(weights) / 2
    return int(np.clip(round(length / 2 - centre), 0, free))


def _background(image: Image.Image) -> tuple[int, ...]:
    """Return the median of the pixels along the border, channel by channel."""
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    return tuple(int(value) for value in np.atleast_1d(np.median(border, axis=0)))


def _flatten_alpha(image: Image.Image, size: int) -> Image.Image:
    """Return the image without alpha, at most `size` pixels a side: on white, or on black if the object is bright."""
    transparent = image.has_transparency_data
    if transparent or image.mode != "L":
        image = image.convert("RGBA" if transparent else "RGB")
    image.thumbnail((size, size))
    if not transparent:
        return image
    alpha = np.asarray(image.getchannel("A"))
    brightness = np.average(np.asarray(image.convert("L")), weights=alpha) if alpha.any() else 0
    return Image.alpha_composite(Image.new("RGBA", image.size, "black" if brightness > BRIGHT else "white"), image)


def _to_uint8(image: Image.Image) -> Image.Image:
    """Return 8 bits a pixel: 16 bits are divided, wider numbers, which have no fixed range, stretched to it."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, np.float32)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (values.min(), values.max())
    if not np.isfinite([low, high]).all():
        raise DataError("expected finite pixels; received NaN or infinity")
    return Image.fromarray(np.rint((values - low) * 255 / ((high - low) or 1)).astype(np.uint8))

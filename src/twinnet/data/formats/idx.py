"""Read IDX files and .npz archives of images; sizes are checked before decompression.

IDX (the format of MNIST): two zero bytes, a type code, the number of dimensions, then each dimension as a big-endian
32-bit integer, then the values.
"""

import gzip
import hashlib
import zipfile
import zlib
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np

from twinnet.core.errors import DataError
from twinnet.core.schema import ArrayFile, ImageDataset

IDX_UINT8 = 0x08
GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20


def encode_idx(array: np.ndarray) -> bytes:
    """Return a uint8 array as an IDX file."""
    return _header(list(array.shape)) + array.astype(np.uint8).tobytes()


def decode_idx(content: bytes | bytearray, name: str, shape: list[int]) -> np.ndarray:
    """Return the uint8 array of an IDX file, a view of its bytes; raises DataError for another header or length."""
    header = _header(shape)
    if content[:4] != header[:4]:
        expected = f"an IDX file of uint8 values in {len(shape)} dimensions"
        raise DataError(f"{name}: expected {expected}; it begins with {content[:4].hex()}")
    if content[: len(header)] != header:
        received = [int.from_bytes(content[at : at + 4]) for at in range(4, len(header), 4)]
        raise DataError(f"{name}: expected the shape {shape}; its header says {received}")
    if len(content) != len(header) + prod(shape):
        raise DataError(f"{name}: expected {len(header) + prod(shape)} bytes; received {len(content)}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def decompress(path: Path, most: int, sha256: str | None = None) -> bytearray:
    """Return the bytes of a file, decompressed if it is gzip, whatever its name.

    Raises DataError if there are more than `most` bytes (no further ones are decompressed), if they have another hash
    than `sha256`, or if gzip is damaged.
    """
    content = bytearray()
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if packed else file as stream:
                while chunk := stream.read(min(CHUNK, most + 1 - len(content))):
                    content += chunk
                    if len(content) > most:
                        raise DataError(f"{path.name}: expected at most {most} bytes decompressed; there are more")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path.name}: expected a whole gzip archive; {error}") from error
    if sha256 is not None and (received := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(f"{path.name}: expected the SHA-256 {sha256}; received {received}")
    return content


def read(dataset: ImageDataset, raw: Path, *, pinned: bool = True) -> dict[str, np.ndarray]:
    """Return the arrays of a data set, uint8; `pinned` insists on the SHA-256 of each file.

    Raises DataError for another hash, header, shape or label than expected.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, expected in dataset.files.items():
        parts = {key: array for key, array in dataset.arrays.items() if array.file == name}
        most = sum(_most_bytes(array) for array in parts.values())
        content = decompress(raw / name, most, expected if pinned else None)
        for key, array in parts.items():
            arrays[key] = _member(content, array) if array.member else decode_idx(content, name, list(array.shape))
    classes = len(dataset.reading.classes or [])
    for key in [key for key in arrays if key.startswith("y_")]:
        if set(np.unique(arrays[key])) != set(range(classes)):
            raise DataError(f"{dataset.arrays[key].file}: expected each label from 0 to {classes - 1}, and no other")
    return arrays


def _header(shape: list[int]) -> bytes:
    return bytes([0, 0, IDX_UINT8, len(shape)]) + np.array(shape, ">u4").tobytes()


def _most_bytes(array: ArrayFile) -> int:
    """Return the size of an IDX file, or a bound for a member of an archive: 64-bit integers and two headers."""
    shape = list(array.shape)
    return len(_header(shape)) + prod(shape) if array.member is None else 8 * prod(shape) + 8192


def _member(content: bytearray, array: ArrayFile) -> np.ndarray:
    """Return one array of an .npz archive as uint8; nothing is unpickled."""
    name, shape = f"{array.file}[{array.member}]", list(array.shape)
    try:
        size = zipfile.ZipFile(BytesIO(content)).getinfo(f"{array.member}.npy").file_size
        if size > _most_bytes(array):
            raise DataError(f"{name}: expected at most {_most_bytes(array)} bytes decompressed; received {size}")
        with np.load(BytesIO(content), allow_pickle=False) as archive:
            values = archive[str(array.member)]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, MemoryError, zlib.error) as error:
        raise DataError(f"{name}: expected an array of an .npz archive; {error}") from error
    if list(values.shape) != shape or values.dtype.kind not in "iu":
        raise DataError(f"{name}: expected integers of the shape {shape}; received {values.dtype}, {values.shape}")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{name}: expected values from 0 to 255; received {values.min()} to {values.max()}")
    return values.astype(np.uint8, copy=False)

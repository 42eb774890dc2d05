"""IDX files and .npz archives to arrays, with every size known before a byte is unpacked.

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


def idx_bytes(shape: list[int]) -> int:
    """Length of an IDX file of uint8 values."""
    return 4 + 4 * len(shape) + prod(shape)


def encode_idx(array: np.ndarray) -> bytes:
    """A uint8 array as an IDX file."""
    header = bytes([0, 0, IDX_UINT8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def decode_idx(content: bytes | bytearray, name: str, shape: list[int]) -> np.ndarray:
    """The uint8 array of an IDX file, a view of its bytes; raises DataError where header, length and shape differ."""
    if len(content) < 4 or content[0] or content[1] or content[2] != IDX_UINT8:
        raise DataError(f"{name}: expected an IDX file of uint8 values; it begins with {bytes(content[:4]).hex()}")
    dimensions = content[3]
    received = np.frombuffer(content, ">u4", count=min(dimensions, (len(content) - 4) // 4), offset=4).tolist()
    if received != shape:
        raise DataError(f"{name}: expected the shape {shape}; its header says {received}")
    if len(content) != idx_bytes(shape):
        raise DataError(f"{name}: expected {idx_bytes(shape)} bytes; received {len(content)}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def unpack(path: Path, most: int) -> bytearray:
    """The bytes of a file, decompressed where it is gzip, whatever it is called.

    Raises DataError where there are more than `most` bytes (nothing beyond them is unpacked) or gzip is damaged.
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
                        raise DataError(f"{path.name}: expected at most {most} bytes unpacked; there are more")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path.name}: expected a whole gzip archive; {error}") from error
    return content


def read(dataset: ImageDataset, raw: Path, *, pinned: bool = True) -> dict[str, np.ndarray]:
    """Return the arrays of a data set, uint8; `pinned` insists on the SHA-256 of each file.

    Raises DataError where a hash, a header, a shape or a label is not the one expected.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, expected in dataset.files.items():
        wanted = {key: array for key, array in dataset.arrays.items() if array.file == name}
        content = unpack(raw / name, _most_bytes(list(wanted.values())))
        if pinned and (received := hashlib.sha256(content).hexdigest()) != expected:
            raise DataError(f"{name}: expected the SHA-256 {expected}; received {received}")
        for key, array in wanted.items():
            arrays[key] = _member(content, array) if array.member else decode_idx(content, name, list(array.shape))
    classes = len(dataset.reading.classes or [])
    for key in [key for key in arrays if key.startswith("y_")]:
        if set(np.unique(arrays[key])) != set(range(classes)):
            raise DataError(f"{dataset.arrays[key].file}: expected each label from 0 to {classes - 1}, and no other")
    return arrays


def _most_bytes(arrays: list[ArrayFile]) -> int:
    if any(array.member for array in arrays):
        return sum(8 * prod(array.shape) + 4096 for array in arrays) + (1 << 16)
    return max((idx_bytes(list(array.shape)) for array in arrays), default=0)


def _member(content: bytearray, array: ArrayFile) -> np.ndarray:
    """One array of an .npz archive, its shape and type read before it is unpacked; nothing is unpickled."""
    member = f"{array.member}.npy"
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive, archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = reader[version](file)
            if list(shape) != list(array.shape) or dtype.kind not in "iu":
                raise DataError(
                    f"{array.file}[{array.member}]: expected integers of the shape {list(array.shape)}; "
                    f"received {dtype} of the shape {list(shape)}"
                )
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return _as_uint8(arrays[array.member], f"{array.file}[{array.member}]")
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{array.file}[{array.member}]: expected an array of an .npz archive; {error}") from error


def _as_uint8(array: np.ndarray, name: str) -> np.ndarray:
    if array.min() < 0 or array.max() > 255:
        raise DataError(f"{name}: expected values from 0 to 255; received {array.min()} to {array.max()}")
    return array.astype(np.uint8, copy=False)

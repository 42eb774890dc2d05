"""IDX and .npz files: round trips, and nothing decompressed beyond what is expected."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.data.faults.worlds import Images, idx_world, npz_world
from twinnet.core.errors import DataError
from twinnet.data.formats import idx


@settings(deadline=None, max_examples=50)
@given(arrays.arrays(np.uint8, arrays.array_shapes(max_dims=4, max_side=6)))
def test_round_trip_preserves_every_byte(array: np.ndarray) -> None:
    content = idx.encode_idx(array)
    decoded = idx.decode_idx(content, "x", list(array.shape))
    assert len(content) == 4 + 4 * array.ndim + array.size
    np.testing.assert_array_equal(decoded, array)
    assert idx.encode_idx(decoded) == content


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40))
def test_arbitrary_bytes_raise_only_data_errors(content: bytes) -> None:
    with pytest.raises(DataError):
        idx.decode_idx(content, "x", [2, 3, 4, 5])


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_flipped_bit_of_an_archive_never_gives_other_data(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    world = idx_world()
    assert isinstance(world, Images)
    folder = tmp_path_factory.mktemp("raw")
    for name, content in world.files.items():
        (folder / name).write_bytes(content)
    victim = bytearray(world.files["y_train.gz"])
    at, bit = data.draw(st.integers(10, len(victim) - 1)), data.draw(st.integers(0, 7))  # past gzip's own header
    victim[at] ^= 1 << bit
    (folder / "y_train.gz").write_bytes(victim)
    try:
        received = idx.read(world.dataset(), folder)  # type: ignore[arg-type]  # it is an ImageDataset
    except DataError:
        return
    np.testing.assert_array_equal(received["y_train"], world.arrays()["y_train"])  # a bit that pads the last byte


@pytest.mark.parametrize("world", [idx_world(), npz_world()], ids=["idx", "npz"])
def test_arrays_are_the_true_ones(world: Images, tmp_path: Path) -> None:
    for name, content in world.files.items():
        (tmp_path / name).write_bytes(content)
    received = idx.read(world.dataset(), tmp_path)  # type: ignore[arg-type]  # it is an ImageDataset
    for name, array in world.arrays().items():
        np.testing.assert_array_equal(received[name], array)
        assert received[name].dtype == np.uint8


def test_bomb_is_not_decompressed(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(200_000_000), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="expected at most 1000 bytes decompressed; there are more"):
        idx.decompress(bomb, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000

"""The float32 variables of a TensorFlow checkpoint, without TensorFlow.

A checkpoint is a table of names (`….index`, LevelDB's sorted table, here uncompressed) whose values
are protocol buffers that say where in the data file (`….data-00000-of-00001`) a variable lies.

Source: LevelDB, doc/table_format.md; TensorFlow, core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

MAGIC = bytes.fromhex("57fb808b247547db")  # the last bytes of a sorted table
FOOTER = 48  # bytes
FLOAT32 = 1  # of tensor_bundle's data types
VARINT, BYTES, FIXED32 = 0, 2, 5  # wire types of protocol buffers


def read_variables(index: bytes, data: bytes) -> dict[str, NDArray[np.float32]]:
    """The float32 variables by name; others, such as a step counter, are left out.

    Raises:
        ValueError: the bytes are no such table, are cut off, or point outside the data.
    """
    try:
        return dict(_variables(index, data))
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"not a readable checkpoint: {error}") from None


def _variables(index: bytes, data: bytes) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if len(index) < FOOTER or not index.endswith(MAGIC):
        raise ValueError("not a readable checkpoint: its index has no footer")
    footer = index[-FOOTER:]
    at = 0
    for _ in range(2):  # where the block of meta data lies, which holds nothing
        _, at = _varint(footer, at)
    for _, handle in _block(index, footer[at:]):
        for name, value in _block(index, handle):
            entry = dict(_fields(value))
            if not name or entry.get(1) != FLOAT32:
                continue
            shape, offset = _shape(entry.get(2, b"")), int(entry.get(4, 0))
            if prod(shape) * 4 != entry.get(5) or offset + prod(shape) * 4 > len(data):
                raise ValueError(f"not a readable checkpoint: {name!r} lies outside the data")
            yield name.decode(), np.frombuffer(data, "<f4", prod(shape), offset).reshape(shape)


def _shape(message: int | bytes) -> list[int]:
    """The sizes in a TensorShapeProto; a scalar has none."""
    sizes = [value for key, value in _fields(message) if key == 2]
    return [int(dict(_fields(size)).get(1, 0)) for size in sizes]


def _block(table: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block that a handle (offset, size) points to."""
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    body = table[offset : offset + size]
    if len(body) < size or table[offset + size] != 0:
        raise ValueError("not a readable checkpoint: a block is cut off or compressed")
    (restarts,) = struct.unpack("<I", body[-4:])
    end, at, key = size - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = _varint(body, at)
        fresh, at = _varint(body, at)
        length, at = _varint(body, at)
        key = key[:shared] + body[at : at + fresh]
        at += fresh + length
        yield key, body[at - length : at]


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer."""
    if isinstance(message, int):
        raise ValueError("not a readable checkpoint: a number where a message should be")
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        if tag & 7 == VARINT:
            value, at = _varint(message, at)
        elif tag & 7 in (BYTES, FIXED32):
            length, at = _varint(message, at) if tag & 7 == BYTES else (4, at)
            value = message[at : at + length]
            at += length
        else:
            raise ValueError(f"not a readable checkpoint: wire type {tag & 7}")
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at

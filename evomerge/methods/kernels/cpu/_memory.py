"""Fused loops over memory, compiled by numba on first use: one pass from stored bytes to rounded bytes.

Tensors come as addresses with a kind (BF16, FP32 or FP16), so that one compiled function serves any number of inputs of
any mixture. Each element goes through the same float32 operations in the same order as in the torch code beside the
methods (no fused multiply-add, no reordering): results are equal bit for bit, which tests check.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from evomerge.methods.kernels.cpu._kernel_cache import KernelCache

BF16, FP32, FP16 = 0, 1, 2
TILE = 512  # elements worked on at a time: a tile of every input stays in the first-level cache

_SOURCES = hashlib.blake2b(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))), digest_size=6
).hexdigest()

Array = Any  # numpy arrays, which numba types by itself


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first call, keeping the machine code on disk where the disk allows it.

    numba finds stored code by a function's name and the date and size of its file, which miss a change in another
    file that the function calls into; so the name is given a digest of all of them. Python's lock is not held, so that
    the thread that writes a result goes on.
    """
    function.__qualname__ = f"{function.__qualname__}_{_SOURCES}"
    return _stored(njit(nogil=True, no_cfunc_wrapper=True)(function))


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as a function that others call, and Python never does."""
    function.__qualname__ = f"{function.__qualname__}_{_SOURCES}"
    return _stored(njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function))


def _stored(dispatcher: Any) -> Any:
    with suppress(RuntimeError, OSError):  # nowhere to write
        dispatcher._cache = KernelCache(dispatcher.py_func)
    return dispatcher


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as part of whatever calls it: a call inside a loop would keep the loop from vector instructions."""
    return njit(nogil=True, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def _place(builder: Any, element: Any, address: Any, index: Any) -> Any:
    """Return a pointer to an element behind an address. numba's own arrays take three times as long to compile."""
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index])


@intrinsic
def get16(typing: Any, address: Any, index: Any) -> Any:
    """Return the uint16 number `index` behind an address, both int64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(builder, ir.IntType(16), *arguments), align=2)

    return types.uint16(types.int64, types.int64), code


@intrinsic
def get32(typing: Any, address: Any, index: Any) -> Any:
    """Return the float32 number `index` behind an address, both int64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(builder, ir.FloatType(), *arguments), align=4)

    return types.float32(types.int64, types.int64), code


@intrinsic
def put16(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write a uint16 at number `index` behind an address, both int64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _place(builder, ir.IntType(16), *arguments[:2]), align=2)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.uint16), code


@intrinsic
def put32(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write a float32 at number `index` behind an address, both int64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _place(builder, ir.FloatType(), *arguments[:2]), align=4)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.float32), code


@intrinsic
def tuple_at(typing: Any, like: Any, address: Any, number: Any) -> Any:
    """Return row `number` of an array at an address as a tuple like another: its elements can stay in registers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element, count = context.get_value_type(like.dtype), context.get_constant(types.int64, like.count)
        first = _place(builder, element, arguments[1], builder.mul(arguments[2], count))
        places = [builder.gep(first, [context.get_constant(types.int64, i)]) for i in range(like.count)]
        return context.make_tuple(builder, like, [builder.load(place) for place in places])

    return like(like, types.int64, types.int64), code


@intrinsic
def as_float(typing: Any, bits: Any) -> Any:
    """Return the float32 of a bit pattern, uint32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), code


@intrinsic
def as_bits(typing: Any, value: Any) -> Any:
    """Return the bit pattern of a float32 as uint32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), code


@intrinsic
def _from_half(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), code


@intrinsic
def _to_half(typing: Any, value: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), code


@part
def load(address: int, kind: int, start: int, length: int, tile: Array) -> None:
    """Read `length` elements from position `start` into `tile`, (TILE,) float32."""
    if kind == BF16:
        place = address + 2 * start
        for k in range(length):
            tile[k] = as_float(np.uint32(np.uint32(get16(place, k)) << np.uint32(16)))
    elif kind == FP16:
        place = address + 2 * start
        for k in range(length):
            tile[k] = _from_half(get16(place, k))
    else:
        place = address + 4 * start
        for k in range(length):
            tile[k] = get32(place, k)


@part
def store(address: int, kind: int, start: int, length: int, tile: Array) -> bool:
    """Round to nearest even and write; return whether everything written is finite."""
    bad = np.uint32(0)
    if kind == BF16:
        place = address + 2 * start
        for k in range(length):
            bits = as_bits(tile[k])
            upper = np.uint32(
                np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            )
            if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
                upper = np.uint32(0x7FC0)
            put16(place, k, np.uint16(upper))
            bad |= np.uint32((upper & np.uint32(0x7F80)) == np.uint32(0x7F80))
    elif kind == FP16:
        place = address + 2 * start
        for k in range(length):
            half = _to_half(tile[k])
            put16(place, k, half)
            bad |= np.uint32((half & np.uint16(0x7C00)) == np.uint16(0x7C00))
    else:
        place = address + 4 * start
        for k in range(length):
            put32(place, k, tile[k])
            bad |= np.uint32((as_bits(tile[k]) & np.uint32(0x7F800000)) == np.uint32(0x7F800000))
    return bad == 0


@inlined
def mix(x: Any) -> Any:
    """Scramble a 32-bit integer, as `_random_mask` does in torch."""
    x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@inlined
def random_bits(first: Any, second: Any, position: Any) -> Any:
    """Return what `_random_mask.uniform_bits` has at a position below 2^32, for keys and position of uint32."""
    return np.uint32(mix(np.uint32(mix(np.uint32(position ^ first)) + second)) >> np.uint32(8))


@part
def uniform(first: int, second: int, start: int, length: int, bits: Array) -> None:
    """Write what `_random_mask.uniform_bits` returns into `bits`, (TILE,) uint32; start is a multiple of TILE."""
    high = np.uint32((start >> 32) * 0x9E3779B9 + second)
    low = np.uint32(start & 0xFFFFFFFF)
    for k in range(length):
        bits[k] = random_bits(np.uint32(first), high, np.uint32(low + np.uint32(k)))

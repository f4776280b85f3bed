"""Triton kernels: a whole merge in one pass over a GPU's memory; imported only where they run (see `_dispatch`).

Each element goes through the same float32 operations in the same order as in the torch code beside the methods:
quotients are rounded (`div_rn`), and launches forbid fused multiply-adds. Numbers come in tuples with an entry for
each input, so that one source serves any number of inputs. Whole numbers travel as two floats below 2^24 (`_whole`),
because Triton would compile anew for every integer that it finds special.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import triton
import triton.language as tl

CUT, WINDOW, RANDOM = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what a task vector keeps
UNDIVIDED, TOTAL, DISJOINT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what a sum is divided by


@triton.jit
def _load(tensor, start, place, inside):
    return tl.load(tensor + start + place, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _store(out, finite, start, place, inside, value):
    """Round and write one block; write 0 to `finite` if an element of it is not."""
    rounded = value.to(out.dtype.element_ty)
    tl.store(out + start + place, rounded, mask=inside)
    largest = tl.max(_pattern(rounded.to(tl.float32)), 0)  # what lies outside was computed from zeros
    tl.store(finite, 0, mask=largest >= 0x7F800000)


@triton.jit
def _pattern(value):
    """Return the bits of |value| as int32: in the order of the values, NaN above all."""
    return value.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def combine(out, finite, size, tensors, factors, gain, DIFFERENCES: tl.constexpr, BLOCK: tl.constexpr):
    """Write gain * sum(f_i x_i); with DIFFERENCES gain * (f_0 x_0 + sum(f_i (x_i - x_0))).

    Args:
        out: pointer to `size` elements, as are the `tensors`, at least one.
        finite: pointer to one byte, which holds 1.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    place = tl.arange(0, BLOCK)
    inside = place < size - start
    origin = _load(tensors[0], start, place, inside)
    total = origin * factors[0]
    for i in tl.static_range(1, len(tensors)):
        tile = _load(tensors[i], start, place, inside)
        if DIFFERENCES:
            tile -= origin
        total += tile * factors[i]
    _store(out, finite, start, place, inside, total * gain)


@triton.jit
def _number(value):
    """Return an entry of a tuple as a float32 scalar, which Triton's interpreter leaves a Python float."""
    return tl.full((), 0.0, tl.float32) + value


@triton.jit
def _whole(high, low):
    """Return high * 2^16 + low as int64."""
    return _number(high).to(tl.int64) * 65536 + _number(low).to(tl.int64)


@triton.jit
def _key(high, low):
    """Return the same as uint32."""
    return _number(high).to(tl.uint32) * 65536 + _number(low).to(tl.uint32)


@triton.jit
def _mix(x):
    """Scramble a 32-bit integer, as `_random_mask` does in torch."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def _uniform(first, second, start, place):
    """Return what `_random_mask.uniform_bits` gives for positions start + place; a block never straddles 2^32."""
    low = start.to(tl.uint32) + place.to(tl.uint32)
    shift = (start >> 32).to(tl.uint32) * 0x9E3779B9 + second
    return _mix(_mix(low ^ first) + shift) >> 8


@triton.jit
def _inside(delta, threshold, end, start, place, BLOCK: tl.constexpr):
    """Return whether a cut keeps an element: above its threshold, or equal to it before position `end`."""
    end = tl.minimum(tl.maximum(end - start, 0), BLOCK).to(tl.int32)
    return _pattern(delta) >= _number(threshold).to(tl.int32, bitcast=True) + (place >= end).to(tl.int32)


@triton.jit
def _kept(delta, numbers, start, place, WHAT: tl.constexpr, BLOCK: tl.constexpr):
    """Return which elements of a task vector are kept.

    With RANDOM, `numbers` are the two keys and the number to stay below; else threshold and end of the ties of one cut,
    and for WINDOW of the cut that is dropped.
    """
    if WHAT == RANDOM:
        bits = _uniform(_key(numbers[0], numbers[1]), _key(numbers[2], numbers[3]), start, place)
        return bits < _number(numbers[4]).to(tl.uint32)
    else:
        kept = _inside(delta, numbers[0], _whole(numbers[1], numbers[2]), start, place, BLOCK)
        if WHAT == WINDOW:
            dropped = _inside(delta, numbers[3], _whole(numbers[4], numbers[5]), start, place, BLOCK)
            kept = kept & (dropped == 0)
        return kept


@triton.jit
def sparse(
    out,
    finite,
    size,
    base,
    models,
    numbers,
    sign_weights,
    post_scales,
    weights,
    divisor,
    scale,
    gain,
    WHAT: tl.constexpr,
    ELECT: tl.constexpr,
    DIVIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write a sparse merge (`_sparse_terms.SparseTerms`).

    Args:
        out: pointer to `size` elements, as are the base and the models.
        finite: pointer to one byte, which holds 1.
        models: pointers.
        numbers: a tuple for each model (see `_kept`).
        sign_weights: a float for each model, as are `post_scales` and `weights`.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    place = tl.arange(0, BLOCK)
    inside = place < size - start
    origin = _load(base, start, place, inside)
    total = tl.zeros_like(origin)
    deltas = ()
    for i in tl.static_range(len(models)):
        delta = _load(models[i], start, place, inside) - origin
        kept = _kept(delta, numbers[i], start, place, WHAT, BLOCK)
        delta *= tl.where(kept, sign_weights[i], 0.0)  # multiplied: NaN and infinity must come through
        total += delta
        deltas = deltas + (delta,)  # type: ignore[assignment]  # noqa: RUF005  (Triton reads no starred tuples)
    if ELECT:
        up = total >= 0
        total = tl.zeros_like(origin)
        count = tl.zeros_like(origin)
        for i in tl.static_range(len(models)):
            differs = tl.where(up, deltas[i], -deltas[i]) <= 0
            total += tl.where(differs, 0.0, deltas[i]) * post_scales[i]
            if DIVIDE == DISJOINT:
                count += tl.where(differs, 0.0, weights[i])
        if DIVIDE == DISJOINT:
            total = tl.div_rn(total, tl.where(count == 0, 1.0, count))
    if DIVIDE == TOTAL:
        total = tl.div_rn(total, divisor + tl.zeros_like(total))
    _store(out, finite, start, place, inside, (total * scale + origin) * gain)

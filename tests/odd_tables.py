"""Tables of every Arrow type, alone and nested, with extreme values: what manifests of other tools may hold."""

import random
import struct
from collections.abc import Callable

import pyarrow as pa

INTS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
ZONES = [None, "UTC", "Asia/Shanghai", "+14:00", "-09:30", "America/St_Johns", "Mars/Olympus"]
UNITS = ["s", "ms", "us", "ns"]
TIMES = [pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
STAMPS = [pa.timestamp(u, z) for u in UNITS for z in ZONES]
SPANS = [pa.duration(u) for u in UNITS]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3)]
DECIMALS = [pa.decimal128(38, 3), pa.decimal128(5, 0), pa.decimal256(76, 10), pa.decimal256(20, 2), pa.decimal64(12, 2)]
FLAT = [*INTS, *TIMES, *STAMPS, *SPANS, *FLOATS, *TEXTS, *BYTES, *DECIMALS, pa.bool_(), pa.null(),
        pa.month_day_nano_interval()]  # fmt: skip
NESTED = ["list", "large_list", "fixed_size_list", "struct", "map", "dictionary", "run_end", "list_view", "union",
          "uuid", "json", "opaque", "tensor"]  # fmt: skip
KINDS = [*map(str, FLAT), *NESTED]
_SECONDS = [
    0,
    253402300799,
    253402271999,
    -62135596800,
    -377705116800,
    10**14,
    -(10**14),
    -1,
]  # years 9999, 1, -9999, ...
_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_TEXT = ["", "a", "图片", "x" * 300, "a\0b", "</script><b>", "=1+1", "NaN", "\U0001f600", 'a,b\n"c"', "1"]
_RAW = [b"", b"\xff\xfe", b"\x00", b"abc", b"\xed\xa0\x80", bytes(range(256))]
NAMES = ["kept", "a.b", "status.x", "embedding.y", "图", "id", "score", "side", "ctr", "pair_id", "num_rows", "width",
         "row_id", "with space", "quo'te\"", "line\nend", "<b>", "x:sum", "text_a", "bucket", "aistudio",
         "kept.list.element"]  # fmt: skip


def odd_array(rng: random.Random, kind: str, num: int, depth: int = 2) -> pa.Array:
    """An array of `num` values of one of KINDS; nested ones hold others, at most `depth` deep."""
    if kind in NESTED:
        return _nested(rng, kind, num, depth)
    flat = next(t for t in FLAT if str(t) == kind)
    return _flat(rng, flat, num)


def _flat(rng: random.Random, kind: pa.DataType, num: int) -> pa.Array:
    t = pa.types
    if t.is_null(kind):
        return pa.nulls(num)
    if kind in TEXTS or kind in BYTES:
        return _bytes(rng, kind, num)
    if kind in DECIMALS:
        top = 10**kind.precision - 1
        from decimal import Context, Decimal

        values = [Decimal(rng.choice([0, 1, -1, top, -top])).scaleb(-kind.scale, Context(prec=90)) for _ in range(num)]
        return pa.array(_holes(rng, values), kind)
    if kind in FLOATS:
        values = [
            rng.choice([0.0, -0.0, 1.5, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324]) for _ in range(num)
        ]
        return pa.array(_holes(rng, values), pa.float64()).cast(kind, safe=False)
    if t.is_boolean(kind):
        return pa.array(_holes(rng, [rng.random() < 0.5 for _ in range(num)]), kind)
    if kind == pa.month_day_nano_interval():
        values = [
            (rng.choice([0, 2**31 - 1, -(2**31)]), rng.choice([0, -5]), rng.choice([0, 2**62])) for _ in range(num)
        ]
        return pa.array(_holes(rng, values), kind)
    return _numbers(rng, kind, num)


def _numbers(rng: random.Random, kind: pa.DataType, num: int) -> pa.Array:
    """Integers and what is stored as one, from raw memory: any bit pattern may lie in a file."""
    bits, signed = kind.bit_width, not pa.types.is_unsigned_integer(kind)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = [low, high, 0, 1, high // 2, *(s * _PER_S.get(getattr(kind, "unit", ""), 1) for s in _SECONDS)]
    chosen = [min(max(rng.choice(values), low), high) for _ in range(num)]
    code = {8: "b", 16: "h", 32: "i", 64: "q"}[bits]
    data = struct.pack(f"<{num}{code if signed else code.upper()}", *chosen)
    valid = pa.array(_holes(rng, [True] * num)).is_valid()
    return pa.Array.from_buffers(kind, num, [valid.buffers()[1], pa.py_buffer(data)])


def _bytes(rng: random.Random, kind: pa.DataType, num: int) -> pa.Array:
    if kind == pa.binary(3):
        return pa.array(_holes(rng, [rng.choice([b"abc", b"\xff\x00\x80"]) for _ in range(num)]), kind)
    source = _RAW if kind in BYTES or rng.random() < 0.3 else [v.encode() for v in _TEXT]
    values = pa.array(_holes(rng, [rng.choice(source) for _ in range(num)]), pa.binary())
    if kind in BYTES:
        return values.cast(kind)
    text = pa.Array.from_buffers(pa.string(), num, values.buffers())  # perhaps not UTF-8
    return text.view(pa.string()) if kind == pa.string() else _cast_unchecked(text, kind)


def _cast_unchecked(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        return pa.array(["a"] * len(text), kind)


def _holes(rng: random.Random, values: list) -> list:
    share = rng.choice([0, 0.2, 1.0 if rng.random() < 0.1 else 0.5])
    return [None if rng.random() < share else v for v in values]


def _nested(rng: random.Random, kind: str, num: int, depth: int) -> pa.Array:
    def inner(count: int) -> pa.Array:
        return odd_array(rng, rng.choice(KINDS if depth > 1 else [str(t) for t in FLAT]), count, depth - 1)

    sizes = [rng.choice([0, 1, 2]) for _ in range(num)]
    ends = [0, *(sum(sizes[: i + 1]) for i in range(num))]
    keys = pa.array([f"k{i}" for i in range(ends[-1])])
    makers: dict[str, Callable[[], pa.Array]] = {
        "list": lambda: pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner(ends[-1])),
        "large_list": lambda: pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), inner(ends[-1])),
        "fixed_size_list": lambda: pa.FixedSizeListArray.from_arrays(inner(2 * num), 2),
        "struct": lambda: pa.StructArray.from_arrays([inner(num), inner(num)], names=["a", rng.choice(["a", "b"])]),
        "map": lambda: pa.MapArray.from_arrays(pa.array(ends, pa.int32()), keys, inner(ends[-1])),
        "dictionary": lambda: pa.DictionaryArray.from_arrays(
            pa.array([i % 2 for i in range(num)], pa.int8()), inner(2)
        ),
        "run_end": lambda: _run_ends(num, inner(2)),
        "list_view": lambda: pa.ListViewArray.from_arrays(
            pa.array(ends[:-1], pa.int32()), pa.array(sizes, pa.int32()), inner(ends[-1])
        ),
        "union": lambda: pa.UnionArray.from_sparse(
            pa.array([i % 2 for i in range(num)], pa.int8()), [inner(num), inner(num)]
        ),
        "uuid": lambda: pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef"] * num, pa.binary(16))),
        "json": lambda: pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"] * num)),
        "opaque": lambda: _opaque(inner(num)),
        "tensor": lambda: pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int32(), [2]),
            pa.FixedSizeListArray.from_arrays(pa.array([1, 2] * num, pa.int32()), 2),
        ),
    }
    return makers[kind]()


def _run_ends(num: int, values: pa.Array) -> pa.Array:
    ends = pa.array([1, num], pa.int32())
    try:
        return pa.RunEndEncodedArray.from_arrays(ends, values)
    except pa.ArrowInvalid:  # looks at texts whether they are UTF-8
        return pa.RunEndEncodedArray.from_arrays(ends, pa.array([b"\xff", None]))


def _opaque(storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.opaque(storage.type, "odd", "tests"), storage)

"""Writes the golden batches next to this file, from the words of README.md alone and not from the Go package.

    python3 make.py

Each NAME.bin is a batch as a guest finds it; NAME.json says what is in it: the columns with their values (null, true,
numbers, texts; ip as 32 hexadecimal digits), the output's place, and for hits_*.bin the answer that stands in it. The folder roles has the same
for filters, maps and aggregates: which rows pass, what is written, which states there are (hexadecimal digits).
"""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
TYPES = {"bool": 1, "i32": 2, "i64": 3, "u32": 4, "u64": 5, "f64": 6, "utf8": 7, "timestamp_ms": 9, "ip": 10, "fixed_binary": 11}
FORMATS = {"i32": "<i", "i64": "<q", "u32": "<I", "u64": "<Q", "f64": "<d", "timestamp_ms": "<q"}
WIDTH = {"i32": 4, "i64": 8, "u32": 4, "u64": 8, "f64": 8, "timestamp_ms": 8, "ip": 16}


def bits(values):
    out = bytearray((len(values) + 7) // 8)
    for i, v in enumerate(values):
        if v:
            out[i // 8] |= 1 << i % 8
    return bytes(out)


def buffers(body, rows, kind, values):
    """Appends the buffers of a column: where validity, data and offsets are, the data's length, and the bytes of a value."""
    def buffer(data):
        body.extend(bytes(-len(body) % 8))
        at = len(body)
        body.extend(data)
        return at

    valid, offsets, width = buffer(bits([v is not None for v in values])), 0, WIDTH.get(kind, 0)
    if kind == "utf8":
        texts = [(v or "").encode() for v in values]
        ends = [0]
        for t in texts:
            ends.append(ends[-1] + len(t))
        offsets = buffer(b"".join(struct.pack("<i", e) for e in ends))
        raw = b"".join(texts)
    elif kind == "bool":
        raw = bits(values)
    elif kind == "fixed_binary":
        raw, width = b"".join(map(bytes.fromhex, values)), len(values[0]) // 2
    elif kind == "ip":
        raw = b"".join(bytes.fromhex(v or "00" * 16) for v in values)
    else:
        raw = b"".join(struct.pack(FORMATS[kind], v or 0) for v in values)
    return valid, buffer(raw), len(raw), offsets, width


def batch(rows, columns, cut=(), indices=None, room=0):
    body = bytearray(64 + 48 * len(columns))

    for i, (kind, values) in enumerate(columns):
        assert len(values) == rows
        valid, data, length, offsets, width = buffers(body, rows, kind, values)
        nulls = sum(v is None for v in values)
        flags = 1 | (2 if nulls == rows else 0) | (8 if i in cut else 0)
        index = i if indices is None else indices[i]
        struct.pack_into("<IHHIIIIIII12x", body, 64 + 48 * i, index, TYPES[kind], flags, nulls, valid, data, length, offsets, 0, width)
    body.extend(bytes(16))
    body.extend(bytes(-len(body) % 8))
    out_off, out_cap = len(body), max(16 * rows + 4096, room)
    struct.pack_into("<IHHIIIIIII", body, 0, 0x31424354, 64, 0, out_off + out_cap, rows, len(columns), 64, 48, out_off, out_cap)
    return body + bytes(out_cap), out_off, out_cap


def write(name, rows, columns, cut=(), hits=None):
    body, out_off, out_cap = batch(rows, columns, cut)
    meaning = {"rows": rows, "out_off": out_off, "out_cap": out_cap, "columns": [{"type": k, "values": v, "cut": i in cut} for i, (k, v) in enumerate(columns)]}
    if hits is not None:
        records, notes = b"", b""
        for h in hits:
            note = 0
            if "note" in h:
                text = json.dumps(h["note"], separators=(",", ":"), ensure_ascii=False).encode()
                note = out_off + 16 * len(hits) + len(notes)
                notes += struct.pack("<I", len(text)) + text
            records += struct.pack("<IIHHI", h["row"], h["rule"], h["severity"], 0, note)
        body[out_off : out_off + len(records + notes)] = records + notes
        struct.pack_into("<I", body, 36, len(records + notes))
        struct.pack_into("<I", body, 56, len(hits))
        meaning["hits"] = hits
    (HERE / (name + ".bin")).write_bytes(bytes(body))
    (HERE / (name + ".json")).write_text(json.dumps(meaning, indent=1, ensure_ascii=False) + "\n")


ALL = [
    ("bool", [True, None, False]),
    ("i32", [-2147483648, 7, None]),
    ("i64", [None, 9223372036854775807, -1]),
    ("u32", [4294967295, 0, None]),
    ("u64", [None, 18446744073709551615 >> 1, 3]),
    ("f64", [1.5, None, -0.25]),
    ("utf8", ["", None, "naïve 日本 \u0000"]),
    ("timestamp_ms", [1772438400000, None, -1]),
    ("ip", ["00000000000000000000ffff0a000001", None, "20010db8000000000000000000000001"]),
]
write("all_types", 3, ALL)
write("one_row", 1, [("utf8", ["x"])])
write("all_null", 9, [("utf8", [None] * 9), ("i64", [None] * 9), ("bool", [None] * 9)])
write("many_rows", 1000, [("i64", list(range(1000))), ("utf8", ["v" * (i % 17) for i in range(1000)])])
write("cut", 2, [("utf8", ["12345678", "ab"])], cut=(0,))
write("hits_none", 2, [("utf8", ["a", "b"])], hits=[])
write("hits", 3, ALL, hits=[{"row": 0, "rule": 1, "severity": 0}, {"row": 2, "rule": 1, "severity": 5, "note": {"why": ["é", {"n": 1}]}}, {"row": 2, "rule": 7, "severity": 3, "note": {}}])

# The roles that do not detect. GROUP and STATES are the indices of their columns.
GROUP, STATES = 0xFFFFFF20, 0xFFFFFF21


def write_role(name, body, meaning):
    (HERE / "roles").mkdir(exist_ok=True)
    (HERE / "roles" / (name + ".bin")).write_bytes(bytes(body))
    (HERE / "roles" / (name + ".json")).write_text(json.dumps(meaning, indent=1, ensure_ascii=False) + "\n")


def answer(body, out_off, out, rows):
    body[out_off : out_off + len(out)] = out
    struct.pack_into("<I", body, 36, len(out))
    struct.pack_into("<I", body, 56, rows)


def columns_answer(out_off, rows, columns):
    """Columns as a map writes them; one without nulls has no validity."""
    out = bytearray(48 * len(columns))
    for i, (kind, values) in enumerate(columns):
        valid, data, length, offsets, width = buffers(out, rows, kind, values)
        nulls = sum(v is None for v in values)
        at = lambda off: off + out_off if off else 0
        struct.pack_into("<IHHIIIIIII12x", out, 48 * i, i, TYPES[kind], 1 if nulls else 0, nulls, at(valid) if nulls else 0, at(data), length, at(offsets), 0, width)
    return bytes(out)


def states_of(body, n, size):
    struct.pack_into("<II", body, 40, n, size)


ELEVEN = [("i64", list(range(11)))]
body, off, cap = batch(11, ELEVEN)
passes = [0, 3, 7, 8, 10]
answer(body, off, bits([i in passes for i in range(11)]), 11)
write_role("filter", body, {"rows": 11, "out_off": off, "passes": passes})

body, off, cap = batch(3, ALL)
written = [(k, v) for k, v in ALL] + [("i64", [1, 2, 3])]
answer(body, off, columns_answer(off, 3, written), 3)
write_role("map", body, {"rows": 3, "out_off": off, "writes": [{"type": k, "values": v} for k, v in written]})

before = ["00" * 24, "0102030405060708" * 3, "ff" * 24]
groups = [0, 1, 0, 2, 1]
body, off, cap = batch(5, [("utf8", ["a", None, "c", "d", "e"]), ("u32", groups)], indices=[0, GROUP])
body[off : off + 72] = bytes.fromhex("".join(before))
states_of(body, 3, 24)
struct.pack_into("<I", body, 36, 72)
write_role("update", body, {"rows": 5, "out_off": off, "groups": groups, "state_size": 24, "states": before})

later = ["11" * 3000, "22" * 3000]
body, off, cap = batch(2, [("fixed_binary", later)], indices=[STATES], room=6000)
body[off : off + 6000] = bytes.fromhex("33" * 3000 + "44" * 3000)
states_of(body, 2, 3000)
struct.pack_into("<I", body, 36, 6000)
write_role("merge", body, {"rows": 2, "out_off": off, "state_size": 3000, "states": ["33" * 3000, "44" * 3000], "source": later})

body, off, cap = batch(3, [("fixed_binary", before)], indices=[STATES])
states_of(body, 3, 24)
values = [("f64", [0.5, None, -2.5])]
answer(body, off, columns_answer(off, 3, values), 3)
write_role("finish", body, {"rows": 3, "out_off": off, "state_size": 24, "source": before, "writes": [{"type": k, "values": v} for k, v in values]})

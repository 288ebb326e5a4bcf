#!/usr/bin/env python3
"""Makes the safetensors files that safetensors.test.cc reads, from the published format alone
(https://github.com/huggingface/safetensors#format) and the standard library:

  all_types.safetensors  every type, data not aligned, header keys not in the data's order, padding, metadata
  written.safetensors    what SafetensorsWriter must write, byte for byte, for the tensors below

Usage: make_safetensors.py            writes both beside this script
       make_safetensors.py --check    exit status 1 if they differ from what is there
"""
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent


def pack(code, numbers):
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


def bfloat16(numbers):
    return b"".join(struct.pack("<f", x)[2:] for x in numbers)


def assemble(header, data, align):
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % align)
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def describe(tensors):
    """[(name, dtype, shape, bytes)] in the data's order -> header entries."""
    header, begin = {}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + len(data)]}
        begin += len(data)
    return header


def all_types():
    tensors = [
        ("flags", "BOOL", [3], bytes([1, 0, 1])),
        ("f64", "F64", [2], pack("d", [1.5, -1e300])),
        ("f32", "F32", [2, 3], pack("f", [0.0, 1.0, -2.5, 3e38, 1e-40, 0.1])),
        ("f16", "F16", [4], pack("e", [1.0, -65504.0, 2.0**-24, float("inf")])),
        ("bf16", "BF16", [3], bfloat16([1.0, -0.15625, 2.0**100])),
        ("i64", "I64", [1], pack("q", [-(2**40)])),
        ("i32", "I32", [2], pack("i", [7, -8])),
        ("i16", "I16", [1], pack("h", [-300])),
        ("i8", "I8", [1], pack("b", [-5])),
        ("u8", "U8", [2], bytes([0, 255])),
        ("nothing", "F32", [0, 5], b""),
        ("scalar é", "F32", [], pack("f", [42.0])),
    ]
    entries = describe(tensors)
    header = {"__metadata__": {"format": "pt", "author": "make_safetensors.py"}}
    header.update((name, entries[name]) for name in sorted(entries, reverse=True))
    return assemble(header, [data for *_, data in tensors], 8)


def written():
    tensors = [
        ("moments", "F64", [2, 2], pack("d", [0.5, 0.25, 0.125, 1e-300])),
        ("step", "I64", [1], pack("q", [123456789012])),
        ("weight", "F32", [3], pack("f", [1.0, 0.1, -2.0])),
        ("order", "I32", [2, 1], pack("i", [5, -6])),
    ]
    header = {"__metadata__": {"format": "pt", "qtf": "1"}}
    header.update(describe(tensors))
    return assemble(header, [data for *_, data in tensors], 64)


def main():
    status = 0
    for name, data in (("all_types.safetensors", all_types()), ("written.safetensors", written())):
        path = HERE / name
        if "--check" not in sys.argv:
            path.write_bytes(data)
        elif path.read_bytes() != data:
            print(f"{path} differs from what this script makes")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())

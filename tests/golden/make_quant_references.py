#!/usr/bin/env python3
"""Quantised blocks and what the gguf package makes of them, for tests/golden/test_quant.c.

    pip install gguf==0.19.0 numpy==2.4.6
    tests/golden/make_quant_references.py

Writes tests/golden/quant/blocks.bin, little endian:
    8 bytes "STRQUANT", u32 version 1, u32 number of records, then per record
    16 bytes type name (NUL-padded), u32 n_bytes, u32 n_values, the blocks, the values as float32.
Half the blocks are quantised from normal numbers where gguf can do that, the others have every byte at random
and finite half-precision scales, so that every bit of the layout matters. Same output on every run.
"""
import importlib.metadata
import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize, quantize

PINNED = "0.19.0"
# Byte offsets of the half-precision numbers in a block.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
}


def random_blocks(rng, n_blocks, n_bytes, halves):
    blocks = rng.integers(0, 256, (n_blocks, n_bytes), dtype=np.uint8)
    for at in halves:
        scales = (rng.standard_normal(n_blocks) * 0.05).astype(np.float16)
        scales[0] = np.float16(-3e-7)  # subnormal and negative
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks


def record(rng, name):
    kind = GGMLQuantizationType[name]
    elements, n_bytes = GGML_QUANT_SIZES[kind]
    n_random = 4 if elements == 32 else 2
    blocks = random_blocks(rng, n_random, n_bytes, HALVES[name])
    if name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        x = rng.standard_normal((4, elements), dtype=np.float32)
        blocks = np.concatenate([quantize(x, kind), blocks])
    values = dequantize(blocks, kind).astype("<f4", copy=False)
    assert np.isfinite(values).all()
    head = struct.pack("<16sII", name.encode(), blocks.size, values.size)
    return head + blocks.tobytes() + values.tobytes()


def main():
    version = importlib.metadata.version("gguf")
    if version != PINNED:
        raise SystemExit(f"gguf {version} is installed, the references are made with {PINNED}")
    rng = np.random.default_rng(20240607)
    records = [record(rng, name) for name in HALVES]
    out = pathlib.Path(__file__).parent / "quant" / "blocks.bin"
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(b"STRQUANT" + struct.pack("<II", 1, len(records)) + b"".join(records))
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

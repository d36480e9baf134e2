#!/usr/bin/env python3
"""Reads dump and lens files with h5py and checks them against their contract; for developers (needs h5py, numpy).

    tests/golden/check_h5py.py dump.h5 dump.h5.partial parts/index.h5 lens.h5
"""
import sys

import h5py
import numpy as np


def check_prompts(f):
    n = len(f["prompts/id"])
    for name in ("id", "text", "answer", "subject", "relation"):
        values = f["prompts"][name].asstr()[:]
        assert len(values) == n and all(isinstance(v, str) for v in values), name
    rows = f["rows/prompt"][:]
    assert np.all(np.diff(rows) >= 0) and set(rows) == set(range(n)), "rows/prompt"
    assert len(f["rows/position"]) == len(rows)
    return n, len(rows)


def check_dump(f):
    n, n_rows = check_prompts(f)
    offset = f["prompts/token_offset"][:]
    assert offset.dtype == np.int64 and len(offset) == n + 1 and offset[0] == 0 and np.all(np.diff(offset) > 0)
    for name in ("id", "text", "byte_begin", "byte_end"):
        assert len(f["tokens"][name]) == offset[-1], name
    texts, tokens = f["prompts/text"].asstr()[:], f["tokens/text"].asstr()[:]
    begin, end = f["tokens/byte_begin"][:], f["tokens/byte_end"][:]
    for p in range(n):
        assert np.all(end[offset[p]:offset[p + 1]] <= len(texts[p].encode())), texts[p]
    assert np.all(begin <= end) and all(isinstance(t, str) for t in tokens)
    position = f["rows/position"][:]
    assert np.all(position < np.diff(offset)[f["rows/prompt"][:]])
    for name, site in f["activations"].items():
        assert site.attrs["site"] == name
        assert all(isinstance(site.attrs[a], str) for a in ("axes", "dtype", "meaning")), name
        if site.attrs["dtype"] == "f16":
            assert site.dtype == np.dtype("<f2"), site.dtype
        if not name.endswith(("hook_pattern", "hook_attn_scores")):
            assert site.shape[0] == n_rows, (name, site.shape)
            continue
        squares = f["prompts/pattern_offset"][:]
        lengths = np.diff(offset)
        assert np.all(np.diff(squares) % (lengths * lengths) == 0) and len(site) == squares[-1]
        if name.endswith("hook_pattern"):
            sums = site[squares[0]:squares[1]].astype(np.float64).reshape(-1, lengths[0], lengths[0]).sum(-1)
            assert np.allclose(sums, 1, atol=2e-2), (name, sums)
    return f"{n} prompts, {n_rows} rows, {len(f['activations'])} sites"


def check_lens(f):
    n, n_rows = check_prompts(f)
    labels = f["layers/label"].asstr()[:]
    shape = (n_rows, len(labels))
    for name in ("rank", "ties", "logprob", "entropy", "kl_final"):
        assert f["lens"][name].shape == shape, name
        assert f["lens"][name].dtype == (np.int32 if name in ("rank", "ties") else np.float32), name
    assert labels[-1] == "final_post" and np.all(f["lens/entropy"][:] >= 0)
    assert np.all(f["lens/kl_final"][:, -1] == 0)
    return f"{n} prompts, {n_rows} rows, {len(labels)} states"


for path in sys.argv[1:]:
    with h5py.File(path) as f:
        for name in ("format", "strata_version", "command", "model_path", "model_sha256", "architecture", "config",
                     "tokenizer_sha256", "specials", "precision", "dtype", "blas", "created"):
            assert isinstance(f.attrs[name], str), name
        assert f.attrs["version"] == 1 and f.attrs["complete"] in (0, 1) and f.attrs["threads"] > 0
        kind = {"strata-dump": check_dump, "strata-lens": check_lens}[f.attrs["format"]]
        print(f"{path}: {kind(f)}, complete={f.attrs['complete']} (HDF5 {h5py.version.hdf5_version})")

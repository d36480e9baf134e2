#!/usr/bin/env python3
"""Seed corpora of the fuzz targets: make_seeds.py STRATA FOLDER makes FOLDER/NAME/ for every tests/fuzz/fuzz_NAME.c.

Seeds come from the tiny model, the golden tests' fixtures and the texts below; only small ones, since the fuzzer is
quicker on them. Where a target takes its first byte as a choice, `choice` puts it there.
"""
import base64
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "tests/golden/models"


def put(target, name, data, choice=None):
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    (folder / name).write_bytes((b"" if choice is None else bytes([choice])) + data)


def safetensors(tensors, metadata=None, pad=True):
    """tensors: name -> (dtype, shape, bytes)"""
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 if pad else 0)
    return struct.pack("<Q", len(text)) + text + data


def weights():
    kinds = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    every = {f"t.{k}": (k, [2, 3], bytes(range(6 * n))) for k, n in kinds.items()}
    put("safetensors", "types", safetensors(every, {"format": "pt"}))
    put("safetensors", "one", safetensors({"a": ("F32", [1], b"\0\0\x80\x3f")}, pad=False))
    put("safetensors", "scalar_and_empty", safetensors({"s": ("F32", [], b"abcd"), "e": ("F16", [0, 7], b"")}))
    put("safetensors", "no_tensors", safetensors({}))
    put("safetensors", "escapes", safetensors({'"\\\u00e9\n': ("U8", [4], b"wxyz")}, {"k": "\u2028"}))
    put("safetensors", "shard", (MODELS / "llama_b/model-00001-of-00002.safetensors").read_bytes())
    index = {"metadata": {"total_size": 4}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    put("shard_index", "two", json.dumps(index))
    put("shard_index", "spaced", json.dumps(index, indent=2))
    put("shard_index", "map_only", '{"weight_map":{"a":"one.safetensors"}}')
    put("shard_index", "no_such", '{"weight_map":{"c":"one.safetensors","a":"three.safetensors"}}')
    put("shard_index", "real", (MODELS / "llama_b/model.safetensors.index.json").read_bytes())


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(kvs, tensors=(), alignment=32, version=3):
    """kvs: (key, type, bytes); tensors: (name, type, dims fastest first, bytes)"""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kvs))
    for key, kind, value in kvs:
        out += string(key) + struct.pack("<I", kind) + value
    offset, data = 0, b""
    for name, kind, dims, raw in tensors:
        out += string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        out += struct.pack("<IQ", kind, offset)
        raw += b"\0" * (-len(raw) % alignment)
        data, offset = data + raw, offset + len(raw)
    return out + (b"\0" * (-len(out) % alignment) if tensors else b"") + data


def array(kind, values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def ggufs():
    numbers = [("k.u8", 0, b"\1"), ("k.i8", 1, b"\xff"), ("k.u16", 2, b"\1\2"), ("k.i16", 3, b"\1\xff"),
               ("k.u32", 4, b"\1\2\3\4"), ("k.i32", 5, b"\1\2\3\xff"), ("k.f32", 6, struct.pack("<f", 1.5)),
               ("k.bool", 7, b"\1"), ("k.text", 8, string("text")), ("k.u64", 10, b"\1" * 8),
               ("k.i64", 11, b"\xff" * 8), ("k.f64", 12, struct.pack("<d", -2.5))]
    arrays = [("a.text", 9, array(8, [string("a"), string(""), string("\u00e9")])),
              ("a.i32", 9, array(5, [b"\1\0\0\0"] * 3)), ("a.bool", 9, array(7, [b"\0", b"\1"])),
              ("a.f64", 9, array(12, [b"\0" * 8])), ("a.none", 9, array(4, []))]
    put("gguf", "values", gguf(numbers + arrays))
    put("gguf", "version_2", gguf(numbers, version=2))
    put("gguf", "nothing", gguf([]))
    blocks = {2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144), 13: (256, 176),
              14: (256, 210), 20: (32, 18), 0: (1, 4), 1: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8),
              28: (1, 8), 30: (1, 2)}
    for kind, (elements, size) in blocks.items():
        put("gguf", f"tensor_type_{kind}", gguf([], [("w", kind, [elements, 2], bytes(2 * size)), ("v", 0, [1], b"abcd")]))
    put("gguf", "alignment_64", gguf([("general.alignment", 4, b"\x40\0\0\0")], [("w", 0, [3], bytes(12))], 64))
    put("gguf", "four_dims", gguf([], [("w", 0, [2, 1, 3, 1], bytes(24))]))
    for model in sorted(MODELS.glob("*/model.gguf")):
        put("model_gguf", model.parent.name, model.read_bytes())
    raw = (ROOT / "tests/golden/quant/blocks.bin").read_bytes()
    for kind in range(19):
        put("quant", f"type_{kind}", raw[kind * 700:kind * 700 + 700], kind)


def gguf_tokenizers():
    def text(key, value):
        return (f"tokenizer.ggml.{key}", 8, string(value))

    def texts(key, values):
        return (f"tokenizer.ggml.{key}", 9, array(8, [string(v) for v in values]))

    def number(key, value):
        return (f"tokenizer.ggml.{key}", 4, struct.pack("<I", value))

    def truth(key, value):
        return (f"tokenizer.ggml.{key}", 7, bytes([value]))

    def types(values):
        return ("tokenizer.ggml.token_type", 9, array(5, [struct.pack("<i", v) for v in values]))

    def scores(values):
        return ("tokenizer.ggml.scores", 9, array(6, [struct.pack("<f", v) for v in values]))

    words = [*"helo", "\u0120", "he", "ll", "hell", "hello", "\u0120w", "<s>", "</s>"]
    merges = ["h e", "l l", "he ll", "hell o"]
    for pre in ["gpt-2", "llama-bpe", "smollm", "qwen2", "falcon", "default"]:
        put("tokenizer_gguf", f"bpe_{pre}", gguf([text("model", "gpt2"), text("pre", pre), texts("tokens", words),
            types([1] * 10 + [3, 3]), texts("merges", merges), number("bos_token_id", 10), number("eos_token_id", 11),
            truth("add_bos_token", 1), truth("add_eos_token", 0)]))
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "\u2581", *"helo", "he", "ll", "\u2581he", "\u2581hello"]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259)
    for model in ["llama", "t5"]:
        put("tokenizer_gguf", f"pieces_{model}", gguf([text("model", model), text("pre", "default"), texts("tokens", pieces),
            scores([-float(i) for i in range(len(pieces))]), types(kinds), number("bos_token_id", 1), number("eos_token_id", 2),
            number("unknown_token_id", 0), truth("add_bos_token", 1), truth("add_space_prefix", 1),
            truth("remove_extra_whitespaces", 0)]))
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2581hello", "\u2581h", "e", "ll", "o", "\u2581,"]
    put("tokenizer_gguf", "bert", gguf([text("model", "bert"), text("pre", "jina-v2-en"), texts("tokens", bert),
        types([3, 2, 3, 3, 3] + [1] * 6), number("bos_token_id", 2), number("cls_token_id", 2), number("seperator_token_id", 3),
        number("unknown_token_id", 1), number("padding_token_id", 0), number("mask_token_id", 4)]))
    put("tokenizer_gguf", "bert_default", gguf([text("model", "bert"), texts("tokens", bert), types([3, 2, 3, 3, 3] + [1] * 6),
        number("unknown_token_id", 1)]))


def vectors():
    def npy(descr, shape, data, version=1, order="False"):
        text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
        n = struct.pack("<H" if version == 1 else "<I", len(text) + 1)
        return b"\x93NUMPY" + bytes([version, 0]) + n + text + b"\n" + data

    for version in 1, 2, 3:
        put("vector_file", f"npy_{version}", npy("<f4", "(3,)", struct.pack("<3f", 1, 2, 3), version), 1)
    put("vector_file", "npy_f64", npy("<f8", "(2, 1)", struct.pack("<2d", 1, -2)), 1)
    put("vector_file", "npy_scalar", npy("<f4", "()", struct.pack("<f", 1)), 1)
    put("vector_file", "npy_fortran", npy("<f4", "(1, 1)", struct.pack("<f", 1), order="True"), 1)
    put("vector_file", "f32", struct.pack("<4f", 1, 2, 3, 4), 0)


def configs():
    for config in sorted(MODELS.glob("*/config.json")):
        put("config", config.parent.name, config.read_bytes())
    put("config", "tiny", (ROOT / "data/tiny/config.json").read_bytes())
    base = json.loads((MODELS / "llama_a/config.json").read_text())
    for kind, extra in {"linear": {"factor": 2.0}, "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 64}, "dynamic": {"factor": 2.0}, "yarn": {"factor": 4.0}}.items():
        put("config", f"rope_{kind}", json.dumps({**base, "rope_scaling": {"rope_type": kind, **extra}}))
    put("config", "window", json.dumps({**base, "sliding_window": 8, "use_sliding_window": True}))


def tokenizers():
    added = {"single_word": False, "lstrip": True, "rstrip": False, "normalized": True, "special": True}
    letters = [chr(b) for b in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    letters += [chr(256 + i) for i in range(256 - len(letters))]
    vocab = {c: i for i, c in enumerate(letters)}
    for text in ["he", "ll", "hell", "hello", "\u0120w", "<s>", "</s>"]:
        vocab[text] = len(vocab)
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": r"(?i:'s|'t)|\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"},
             "behavior": "Isolated", "invert": False}
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [vocab["<s>"]], "tokens": ["<s>"]}}}
    base = {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": vocab[t], "content": t, **added} for t in ["<s>", "</s>"]],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {"type": "Digits", "individual_digits": True}, level]},
            "post_processor": {"type": "Sequence", "processors": [level, template]},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": True, "vocab": vocab, "merges": ["h e", ["l", "l"], "he ll", "hell o", "\u0120 w"]}}
    put("tokenizer_json", "full", json.dumps(base))
    put("tokenizer_json", "plain", json.dumps({**base, "added_tokens": [], "normalizer": None, "post_processor": None,
                                               "pre_tokenizer": level}, ensure_ascii=False))
    for kind in ["BPE", "Unigram", "WordPiece", "WordLevel"]:
        model = {"BPE": {"unk_token": "<unk>", "byte_fallback": False, "merges": ["a b"]},
                 "Unigram": {"unk_id": 0, "byte_fallback": False},
                 "WordPiece": {"unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
                 "WordLevel": {"unk_token": "<unk>"}}[kind] | {"type": kind}
        words = ["<unk>", "a", "b", "ab", "##b", "\u2581"]
        model["vocab"] = [[w, -float(i)] for i, w in enumerate(words)] if kind == "Unigram" else {w: i for i, w in enumerate(words)}
        put("tokenizer_json", f"small_{kind}", json.dumps({"version": "1.0", "added_tokens": [], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model}))
    parts = {"normalizer": [{"type": t} for t in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"]] +
             [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
              {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
              {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Precompiled", "precompiled_charsmap": "AAAA"}],
             "pre_tokenizer": [{"type": t} for t in ["Whitespace", "WhitespaceSplit", "BertPreTokenizer"]] +
             [{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False},
              {"type": "Punctuation", "behavior": "Isolated"}, {"type": "CharDelimiterSplit", "delimiter": " "},
              {**split, "behavior": "MergedWithPrevious"}, {**split, "invert": True, "behavior": "Removed"}],
             "post_processor": [{"type": "BertProcessing", "sep": ["</s>", vocab["</s>"]], "cls": ["<s>", vocab["<s>"]]},
              {"type": "RobertaProcessing", "sep": ["</s>", vocab["</s>"]], "cls": ["<s>", vocab["<s>"]],
               "trim_offsets": True, "add_prefix_space": False}]}
    for key, values in parts.items():
        for value in values:
            put("tokenizer_json", f"{key}_{value['type']}_{value.get('behavior', '')}", json.dumps({**base, key: value, "decoder": base["decoder"] if key != "pre_tokenizer" else None}))
    units = [0] * 256  # a map of 'a' to "x": the root, the unit that 'a' leads to, its leaf
    units[97] = 97 | 1 << 8 | 2 << 10
    charsmap = struct.pack("<I256I", 1024, *units) + b"x\0"
    pieces = [["<unk>", 0.0], ["x", -1.5], ["\u2581x", -2.25], ["e", -3.0]] + [[f"<0x{byte:02X}>", -9.0] for byte in range(256)]
    put("tokenizer_json", "sentencepiece", json.dumps({"version": "1.0", "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}]},
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": True}}))
    for path in sorted((ROOT / "tests/golden/tokenizers").glob("*.json")):
        if path.stat().st_size < 20000:
            put("tokenizer_json", f"golden_{path.stem}", path.read_bytes())
    texts = ["The Eiffel Tower is located in the city of Paris.", "  two  spaces\n\n\ttab ", "don't I'LL 12345 3.14",
             "e\u0301 \u00e9 \u1e9b\u0323 \ufb01", "\u4f60\u597d\u3000\u4e16\u754c", "\U0001f469\u200d\U0001f373 \u2028x",
             "<|endoftext|><s></s>[MASK]", "a" * 300, "\ud55c\uad6d\uc5b4 \u0939\u093f\u0928\u094d\u0926\u0940", "", "\u00a0\u0085\u200b"]
    for i, text in enumerate(texts):
        put("tokenize", f"text_{i}", text, i % 10 + 10 * (i % 2))
    put("tokenize", "no_utf8", b"ab\xff\xfe\xc0\xaf\xed\xa0\x80", 1)


def tokenizer_files():
    def join(*parts):
        return b"\x1e".join(p.encode() if isinstance(p, str) else json.dumps(p).encode() for p in parts)

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##r", "e", "tower", ",", "\u4f60"]
    put("tokenizer_files", "bert", join("\n".join(words) + "\n"), 0)
    put("tokenizer_files", "bert_settings", join("\r\n".join(words), "", {"do_lower_case": False, "strip_accents": True,
        "tokenize_chinese_chars": False, "tokenizer_class": "BertTokenizerFast", "unk_token": {"content": "[UNK]"}},
        {"cls_token": "[CLS]", "mask_token": {"content": "[MASK]", "lstrip": True}}, {"new": len(words)}), 0)
    vocab = {c: i for i, c in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "T", "h", "e", "\u0120", "E", "he", "\u0120E", "<|endoftext|>"])}
    merges = "#version: 0.2\nh e\n\u0120 E\n"
    put("tokenizer_files", "gpt2", join(json.dumps(vocab, ensure_ascii=False), merges), 64 + 2)
    put("tokenizer_files", "roberta", join(vocab, merges, {"add_prefix_space": True, "errors": "replace", "added_tokens_decoder":
        {"4": {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False, "special": True}}},
        {"bos_token": "<s>", "eos_token": {"content": "</s>"}}), 64 + 3)


def facts():
    fact = {"id": "f1", "prompt": "The Eiffel Tower is in", "subject": "Eiffel Tower", "answer": "Paris",
            "relation": "city", "aliases": ["Paname", "Lut\u00e8ce"], "subject_occurrence": "last"}
    known = {"known_id": 3, "subject": "Vinson Massif", "attribute": " Antarctica ", "relation_id": "P30", "prompt": "Vinson Massif is in"}
    lre = {"name": "capital", "prompt_templates": ["The capital of {} is"], "prompt_templates_zs": ["{}, whose capital is"],
           "properties": {"relation_type": "factual"}, "samples": [{"subject": "France", "object": "Paris"}, {"subject": "Italy", "object": "Rome"}]}
    lines = json.dumps(fact) + "\n\n" + json.dumps({"tokens": [1, 2, 3], "answer_token": 4}) + "\r\n"
    for i, text in enumerate([lines, json.dumps([fact, known], indent=1), "prompt,subject,answer,aliases\n\"a \"\"q\"\", b\",b,c,x|y\n",
                              "prompt\tanswer_token\na b\t7\n", "one prompt\n\nanother\r\nlast"]):
        put("facts", f"named_{i}", text, i)
        put("facts", f"bom_{i}", "\ufeff" + text, i + 64)
        put("facts", f"unnamed_{i}", text, 5)
    put("facts", "lre", json.dumps(lre), 1)
    put("facts", "lre_unnamed", json.dumps(lre, ensure_ascii=False), 5)
    for path in sorted((ROOT / "data/facts").glob("*.jsonl"))[:3]:
        put("facts", path.stem, "".join(path.open().readlines()[:3]), 0)


EDITS = ["blocks.4.attn.hook_z@last#3,7 zero", "blocks.0-5.hook_mlp_out@subject scale 0", "L3H7 zero", "L2N12@all add -0.5",
         "blocks.1-3.attn.hook_attn_scores@last<-subject block", "resid_post:3@subject-last add direction.npy",
         "hook_embed@subject add noise:0.4:7", "resid_post:2@subject-last patch from b", "mlp_out:2-5@subject-last freeze",
         "z:0@0,3-5#1-2 mean", "blocks.*.attn.hook_pattern@all uniform", "resid_post:5 patch attn_out:3@last from a",
         "k:1@non-subject#0 set 1e-3", "blocks.1.attn.o.hook_in@last zero", "resid_pre:1 patch :3 from base"]
FILTERS = ["blocks.*.attn.hook_z", "resid_post:3,z:1-2,L3H7", "*", "resid_*,logits", "blocks.0-5.*", "blocks.?.hook_mlp_out", "scale4ln1,k2"]


def expressions():
    for i, edit in enumerate(EDITS):
        put("expressions", f"edit_{i}", edit, 0)
    put("expressions", "edits_json", json.dumps(EDITS[:3] + [{"site": "z:3", "at": [0, 2], "units": "1-2", "op": "set", "value": [1, 2, 3, 4]},
        {"site": "attn_scores:1", "at": "last", "keys": "subject", "op": "block"},
        {"site": "resid_post:1", "at": "last", "op": "patch", "from": {"prompt": "base", "site": "attn_out", "layer": 3, "at": "last"}}]), 1)
    for i, text in enumerate(FILTERS):
        put("expressions", f"filter_{i}", text, 2)
        put("expressions", f"name_{i}", text.split(",")[0], 3)
    for text in ["last", "all", "subject", "subject-first", "subject-last", "non-subject", "0", "0,3-5", "7-2"]:
        put("expressions", f"positions_{text}", text, 4)
    prompts = [{"name": "france", "prompt": "The capital of France is", "subject": "France", "answer": "Paris"},
               {"name": "ids", "tokens": [5, 6, 7, 8], "answer_token": 9},
               {"name": "noisy", "prompt": "The capital of Italy is", "subject": "Italy", "subject_occurrence": "last",
                "edits": ["hook_embed@subject add noise:0.4"]}]
    variants = [{"name": "swap", "prompt": "france", "edits": [{"site": "resid_post:1", "at": "subject-last", "op": "patch", "from": "ids"}]},
                {"name": "restore", "prompt": "noisy", "edits": ["resid_post:0@last patch from france", "z:0@last#0 zero"]}, {"name": "none", "edits": []}]
    head = {"format": "strata-experiment", "version": 1}
    put("experiment", "full", json.dumps({**head, "prompts": prompts, "variants": variants, "mean_over": "facts.jsonl", "seed": 1, "description": "x"}))
    put("experiment", "one", json.dumps({**head, "prompts": prompts[1:2], "variants": variants[2:]}, indent=1))


QUERIES = ["first(rank <= 10) >= 2 and to_subject[L1H0] > 0.3", "norm(resid_post[0]) > 100 or not position == 0",
    "sum(pattern[0,1,subject]) / 2 >= -1e-3 * .5", "id in ('a', \"b\") and text ~ '*x*'", "id, position, z[0,1], rank[\"final_post\"]",
    "cosine(z[0,0], z[0,:,1:2]) < 1", "argmax(logprob[:-1]) != argmin(logprob[1:]) && !missing(rank[0])", "heads:facts.rank not in (1, 2+3)",
    "'lens':rank[-1] <= 3 || any(missing(rank))", "dot(blocks.0.hook_resid_post, resid_post[-1]) * exp(log(abs(-2)))", "pattern[0,0] + tokens.id",
    "tokens.id[-1] == 3 and pattern[0,:,2] > 0", "((((first(rank)))))", "'\\u00e4' == \u20ac", "rnak > 3"]


def queries():
    for i, text in enumerate(QUERIES):
        put("query", f"query_{i}", text, i % 3)


def dumps(strata):
    """Made by the program itself: what it writes is what it must read."""
    def run(*args):
        subprocess.run([strata, args[0], "-m", ROOT / "tests/golden/models/llama_b", "-i", where / "f.jsonl", "--quiet", *args[1:]],
                       check=True, stdout=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        (where / "f.jsonl").write_text('{"tokens":[5,6,7],"answer_token":9}\n{"tokens":[5,8],"answer_token":3}\n')
        run("dump", "-o", where / "all.h5", "--sites", "resid_post:0,z:0,pattern:0")
        run("dump", "-o", where / "f16.h5", "--sites", "resid_post:0", "--dtype", "f16")
        run("lens", "-o", where / "lens.h5")
        run("lens", "-o", where / "lens_all.h5", "--positions", "all")
        for path in where.glob("*.h5"):
            put("h5", path.stem, path.read_bytes())


OUT = Path(sys.argv[2])
weights()
ggufs()
gguf_tokenizers()
vectors()
configs()
tokenizers()
tokenizer_files()
facts()
expressions()
queries()
dumps(os.path.abspath(sys.argv[1]))

#!/usr/bin/env python3
"""Makes NAME_gguf in tests/golden/models: the models of the other scripts as llama.cpp's convert_hf_to_gguf.py writes them.

usage: make_gguf_models.py [OUT_FOLDER [NAME...]]       (default: models/ beside this file, all of them)

Made with gguf 0.19.0, numpy 2.4.6 and what make_decoder_references.py names. Tensor names are gguf's own map; which keys a
family has, and what happens to its tensors, is the converter's. Matrices are of the smallest of Q8_0, F16 and F32 that
holds their numbers exactly, the rest is F32; no tokenizer. Where the file format says less than config.json (which layers
slide, how queries are scaled), the model is one of its own, made as in make_decoder_references.py but in the sizes that
llama.cpp takes for granted; NAME_q8 are own models too, of numbers that Q8_0 holds. mixtral_q8 has a tensor for each
expert, as files of early 2024.
"""
import json
import math
import pathlib
import re
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers as T
from gguf import (MODEL_ARCH_NAMES, GGMLQuantizationType as Q, GGUFWriter, PoolingType, RopeScalingType,
                  get_tensor_name_map, quants)
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch_file

import make_decoder_references as decoders
from decoder_sites import opened
from make_model_references import consecutive_pairs

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "models")

# Architectures of GGUF by model.
ARCHS = {
    "llama_yarn": "llama", "mixtral": "llama", "mistral": "llama", "gpt_bigcode": "starcoder", "gpt_neox": "gptneox",
 "bloom": "bloom", "qwen2_moe": "qwen2moe", "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe", "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3", "phi": "phi2",
    "phi3": "phi3", "phi3_long": "phi3", "olmo": "olmo", "olmo2": "olmo2", "stablelm": "stablelm",
    "stablelm_parallel": "stablelm", "falcon": "falcon", "falcon_grouped": "falcon", "mpt": "mpt",
    "starcoder2": "starcoder2", "cohere": "command-r", "cohere2": "cohere2", "granite": "granite",
    "smollm3": "smollm3", "bert": "bert", "xlm_roberta": "bert", "distilbert": "bert", "modernbert": "modern-bert",
    "mixtral_q8": "llama", "qwen3_moe_q8": "qwen3moe", "phi3_q8": "phi3"}

ENDS = (".weight", ".bias")
HUB = {"bloom": "_hub"}  # that one says how long prompts may be

# Those with references of their own.
FOUR = dict(num_hidden_layers=4)
Q8_SIZES = decoders.LLAMA | dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1)
OWN = {
    "gemma2": lambda: T.Gemma2Config(**decoders.OWN_HEAD | FOUR, sliding_window=6, query_pre_attn_scalar=10,
                                     attn_logit_softcapping=9.0, final_logit_softcapping=9.0),
    "gemma3_text": lambda: T.Gemma3TextConfig(**decoders.OWN_HEAD | dict(num_hidden_layers=7), sliding_window=6,
                                              query_pre_attn_scalar=10),
    "mixtral_q8": lambda: T.MixtralConfig(**Q8_SIZES, num_local_experts=3, num_experts_per_tok=2),
    "qwen3_moe_q8": lambda: T.Qwen3MoeConfig(**Q8_SIZES, head_dim=16, num_experts=5, num_experts_per_tok=2,
                                             moe_intermediate_size=32, norm_topk_prob=True),
    "phi3_q8": lambda: T.Phi3Config(**Q8_SIZES, **decoders.IDS, sliding_window=11),
    "cohere2": lambda: T.Cohere2Config(**decoders.ODD | FOUR, **decoders.IDS, sliding_window=6, logit_scale=0.25),
    "smollm3": lambda: T.SmolLM3Config(**decoders.ODD | FOUR, **decoders.IDS),
}
SEEDS = {"gemma2": 510, "gemma3_text": 501, "cohere2": 502, "smollm3": 503, "mixtral_q8": 504, "qwen3_moe_q8": 515,
         "phi3_q8": 506}


# ---------------------------------------------------------------- metadata


def write_metadata(w, name, arch, c):
    """c: config.json. Keys as the converter's class of the family writes them."""
    get = lambda *keys, otherwise=None: next((c[k] for k in keys if c.get(k) is not None), otherwise)
    d, heads = get("hidden_size", "n_embd", "n_embed", "d_model", "dim"), get("num_attention_heads", "n_head", "n_heads")
    kv_heads = get("num_key_value_heads", "num_kv_heads", otherwise=heads)
    if arch == "falcon" and not c["new_decoder_architecture"]:
        kv_heads = 1
    rope = c.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    head = get("head_dim", otherwise=d // heads)
    w.add_name(name)
    w.add_block_count(get("num_hidden_layers", "n_layer", "n_layers"))
    w.add_context_length(-first_position(c) + get("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", otherwise=d))
    w.add_embedding_length(d)
    w.add_feed_forward_length(get("intermediate_size", "ffn_hidden_size", "n_inner", "hidden_dim", otherwise=4 * d))
    w.add_head_count(heads)
    if arch != "mpt":
        w.add_head_count_kv(kv_heads)
    if c.get("head_dim"):
        w.add_key_length(head)
        w.add_value_length(head)
    if "rms_norm_eps" in c:
        w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    else:
        w.add_layer_norm_eps(get("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps",
                                 otherwise=1e-12 if arch == "bert" else 1e-5))
    if "rope_theta" in rope and arch != "falcon":
        w.add_rope_freq_base(rope["rope_theta"])
    if arch in ("llama", "granite", "smollm3"):
        w.add_vocab_size(c["vocab_size"])
        w.add_rope_dimension_count(head)
    if arch in ("gptneox", "phi2", "phi3", "stablelm"):
        w.add_rope_dimension_count(int(rope["partial_rotary_factor"] * head))
    if arch == "cohere2":
        w.add_vocab_size(c["vocab_size"])
        w.add_rope_dimension_count(head)
    if arch in ("command-r", "cohere2"):
        w.add_rope_scaling_type(RopeScalingType.NONE)
        w.add_logit_scale(c["logit_scale"])
    if arch in ("gptneox", "stablelm"):
        w.add_parallel_residual(c["use_parallel_residual"])
    if arch == "falcon":
        w.add_tensor_data_layout("jploski")
    if arch == "granite":
        w.add_attention_scale(c["attention_multiplier"])
        w.add_embedding_scale(c["embedding_multiplier"])
        w.add_residual_scale(c["residual_multiplier"])
        w.add_logit_scale(c["logits_scaling"])
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if arch == "gemma3":
        w.add_rope_freq_base_swa(c["rope_parameters"]["sliding_attention"]["rope_theta"])
    # Converters of Mistral, Mixtral and StarCoder 2 leave the window out: such a file is right for shorter prompts only.
    if arch in ("gemma2", "gemma3", "cohere2", "phi3") or c["model_type"] in ("mistral", "mixtral", "starcoder2"):
        w.add_sliding_window(c["sliding_window"] or 0)
    if arch == "olmo" and c["clip_qkv"] is not None:
        w.add_clamp_kqv(c["clip_qkv"])
    if arch == "mpt":
        w.add_clamp_kqv(c["attn_config"]["clip_qkv"])
        w.add_max_alibi_bias(c["attn_config"]["alibi_bias_max"])
    if experts := get("num_local_experts", "num_experts"):
        w.add_expert_count(experts)
        w.add_expert_used_count(c["num_experts_per_tok"])
    if "moe_intermediate_size" in c:
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    if "shared_expert_intermediate_size" in c:
        w.add_expert_shared_feed_forward_length(c["shared_expert_intermediate_size"])
    if arch.endswith("bert"):
        w.add_causal_attention(False)
        w.add_pooling_type(PoolingType.MEAN)
        w.add_vocab_size(c["vocab_size"])
    if "type_vocab_size" in c:
        w.add_token_type_count(c["type_vocab_size"])
    if arch == "modern-bert":
        w.add_rope_freq_base(c["global_rope_theta"])
        w.add_rope_freq_base_swa(c["local_rope_theta"])
        w.add_sliding_window(c["local_attention"])
        w.add_sliding_window_pattern(c["global_attn_every_n_layers"])
        w.add_rope_scaling_type(RopeScalingType.NONE)
    write_scaling(w, arch, c, rope)
    w.add_file_type(1)
    w.add_quantization_version(2)


def first_position(c):
    """Rows of RoBERTa's table before that of position 0, which the converter drops."""
    return c["pad_token_id"] + 1 if c["model_type"] == "xlm-roberta" else 0


def write_scaling(w, arch, c, rope):
    if rope.get("rope_type") == "yarn":
        w.add_rope_scaling_type(RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if arch != "phi3":
        return
    old = c["original_max_position_embeddings"]
    w.add_rope_scaling_orig_ctx_len(old)
    if rope["rope_type"] == "longrope":
        ratio = c["max_position_embeddings"] / old
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(ratio) / math.log(old)) if ratio > 1 else 1.0)
        w.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
        w.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))


# ---------------------------------------------------------------- tensors


def ungrouped(x, groups, queries):
    """Rows of a fused tensor from those of each key/value head together to all of q, all of k, all of v."""
    parts = x.reshape(groups, queries + 2, -1, *x.shape[1:])
    return np.concatenate([parts[:, :queries].reshape(-1, *x.shape[1:]), parts[:, -2].reshape(-1, *x.shape[1:]),
                           parts[:, -1].reshape(-1, *x.shape[1:])])


def converted(name, x, arch, c):
    """What the converter makes of a tensor's numbers."""
    heads = c.get("num_attention_heads", c.get("n_head"))
    kv_heads = c.get("num_key_value_heads", heads)
    if arch in ("llama", "granite", "smollm3", "olmo") and re.search(r"\.[qk]_proj\.", name):
        return consecutive_pairs(x, heads if ".q_proj." in name else kv_heads)
    if arch in ("bloom", "gptneox") and "query_key_value" in name:
        return ungrouped(x, heads, 1)
    if arch == "falcon" and "query_key_value" in name:
        groups = c["num_kv_heads"] if c["new_decoder_architecture"] else 1
        return ungrouped(x, groups, heads // groups)
    if "position_embeddings" in name:
        return x[first_position(c):]
    if name.endswith("token_type_embeddings.weight") and len(x) == 1:
        return x[0]  # as llama-quantize leaves it
    return x + np.float32(1) if arch.startswith("gemma") and name.endswith("norm.weight") else x


def stacked(tensors, pattern):
    """Tensors whose name has a number where the pattern has one, in the number's order, as one tensor."""
    groups = {}
    for name in list(tensors):
        if match := re.fullmatch(pattern, name):
            groups.setdefault(match[1] + match[3], {})[int(match[2])] = tensors.pop(name)
    for name, parts in groups.items():
        tensors[name] = np.stack([parts[i] for i in range(len(parts))])


def gguf_name(names, old):
    if match := re.fullmatch(r"model\.layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w[123])\.weight", old):
        kind = {"w1": "gate", "w2": "down", "w3": "up"}[match[3]]
        return f"blk.{match[1]}.ffn_{kind}.{match[2]}.weight"
    new = names.get_name(old, ENDS) or names.get_name(re.sub(r"^(bert|transformer|roberta|distilbert|model)\.", "", old), ENDS)
    assert new, old
    return new


def smallest_type(x, name):
    """That holds x exactly; Q.F32 where the converter always takes it."""
    always = ("_norm.weight", "position_embd.weight", "token_types.weight", "gate_inp.weight", "gate_inp_shexp.weight")
    if x.ndim < 2 or name.endswith(always):
        return Q.F32
    exact = lambda kind: (quants.dequantize(quants.quantize(x, kind), kind) == x).all()
    return Q.Q8_0 if x.shape[-1] % 32 == 0 and exact(Q.Q8_0) else Q.F16 if exact(Q.F16) else Q.F32


def write_gguf(name, arch, source):
    """The model in the folder `source` as OUT/NAME_gguf/model.gguf."""
    folder = OUT / f"{name}_gguf"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    c = json.loads((source / "config.json").read_text())
    writer = GGUFWriter(folder / "model.gguf", arch)
    write_metadata(writer, name, arch, c)
    tensors = {k: v.float().numpy() for k, v in load_torch_file(source / "model.safetensors").items()}
    if name != "mixtral_q8":
        stacked(tensors, r"(.*\.experts)\.(\d+)(\..*)")
    stacked(tensors, r"(.*_layernorm)\.norms\.(\d+)(\.weight)")
    enum = next(key for key, value in MODEL_ARCH_NAMES.items() if value == arch)
    names = get_tensor_name_map(enum, 100)
    for old, x in tensors.items():
        if re.match("cls|lm_head|vocab_|head|decoder", old) and "bert" in arch:  # the map knows no head of an encoder
            continue
        new = gguf_name(names, old)
        x = np.ascontiguousarray(converted(old, x, arch, c))
        kind = smallest_type(x, new)
        writer.add_tensor(new, quants.quantize(x, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def make(name):
    if name not in OWN:
        folder = write_gguf(name, ARCHS[name], OUT / (name + HUB.get(name, "")))
        if "bert" in ARCHS[name]:
            write_headless(folder, OUT / name)
        else:
            (folder / "same_as").write_text(name + "\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        source, config = pathlib.Path(scratch), OWN[name]()
        model = T.AutoModelForCausalLM.from_config(config)
        decoders.random_weights(model, SEEDS[name])
        if name.endswith("_q8"):
            round_to_q8(model)
        model.to(torch.float32 if name.endswith("_q8") else torch.float16).save_pretrained(source)
        folder = write_gguf(name, ARCHS[name], source)
        decoders.write_references(folder, opened(source, config.model_type), 1500)


def round_to_q8(model):
    for parameter in model.parameters():
        if parameter.dim() > 1:
            read = quants.dequantize(quants.quantize(parameter.data.numpy(), Q.Q8_0), Q.Q8_0)
            parameter.data = torch.tensor(read.reshape(parameter.shape))


def write_headless(folder, source):
    """The references of an encoder but for its head, which GGUF does not have."""
    head = ("mlm_head.", "logits", "lens.")
    arrays = {k: v for k, v in load_file(source / "references.safetensors").items() if not k.startswith(head)}
    save_file(arrays, folder / "references.safetensors", metadata={"made_with": "make_encoder_references.py"})
    (folder / "references.safetensors").chmod(0o644)


if __name__ == "__main__":
    T.utils.logging.set_verbosity_error()
    T.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for model in sys.argv[2:] or ARCHS:
        make(model)

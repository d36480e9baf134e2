#!/usr/bin/env python3
"""Makes tests/golden/models: tiny random models as users have them, and every site of them in fp64.

usage: make_model_references.py [OUT_FOLDER]       (default: models/ beside this file)

Made with torch 2.15.0, transformers 5.24.0, safetensors 0.8.0, gguf 0.19.0, numpy 2.4.6, Python 3.11 on x86-64.
Sites come from fp64_sites.py. The eps of norms are powers of two where a GGUF, whose metadata are float32, shares them.

FOLDER/config.json, model*.safetensors      as transformers saves them (or as older versions and the hub have them)
FOLDER/model.gguf                           as llama.cpp's convert_hf_to_gguf.py writes it, without tokenizer
FOLDER/references.safetensors, or FOLDER/same_as naming the folder that has them:
  tokens I32 [sum of T]        the prompts, one after another; prompt P is token_offset[P] .. token_offset[P + 1]
  token_offset I32 [P + 1]     rows I32 [R]: the tokens of that packing whose sites are stored, rising
  {site} F64 [R, ...]          shapes and meaning as TransformerLens; all sites of the family
  {site}.{P} F64 [H, rows of P, T of P]: hook_attn_scores (-inf where masked) and hook_pattern of prompt P
  lens.answer I32 [R, 2]       the model's own answer and a fixed token; S states: the input of every block, final_post
  lens.rank I32 [R, 2, S] (1 = top); lens.logprob F64 [R, 2, S]; lens.entropy, lens.kl_final F64 [R, S] in nats;
  lens.top_token I32 [R, S, 5]
"""
import json
import math
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Q, GGUFWriter, RopeScalingType, quants
from safetensors.numpy import load_file, save_file
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM)

from fp64_sites import base_frequencies, lens_of, llama3_divisors, sites_of

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "models")

LENGTHS = (1, 2, 7, 19, 67)


def write_references(folder, model, rows, seed):
    """References of five ragged prompts; rows: the stored positions of each."""
    rng = np.random.default_rng(seed)
    vocabulary, out, all_tokens, offsets, packed = model.config.vocab_size, {}, [], [0], []
    for p, (length, stored) in enumerate(zip(LENGTHS, rows)):
        tokens = rng.integers(0, vocabulary, length).tolist()
        tokens[-1] = (0, vocabulary - 1, 1, tokens[0], tokens[3 % length])[p]  # first and last id, repeated tokens
        sites = sites_of(model, tokens)
        for name, value in sites.items():
            edges = name.endswith(("attn_scores", "pattern"))
            assert value.dtype == torch.float64 and (edges or value.isfinite().all()), name
            assert not (name.endswith("pattern") and length > 60) or value[:, 32:].max() > 0.4  # not uniform
            if not edges:
                out.setdefault(name, []).append(value[stored])
            elif stored:
                out[f"{name}.{p}"] = [value[:, stored]]
        for name, value in lens_of(model, sites, stored, fixed=vocabulary // 2).items() if stored else ():
            out.setdefault(f"lens.{name}", []).append(value)
        packed += [offsets[-1] + row for row in stored]
        all_tokens += tokens
        offsets.append(len(all_tokens))
    arrays = {name: np.ascontiguousarray(torch.cat(parts).detach().numpy()) for name, parts in out.items()}
    arrays |= {name: np.array(value, np.int32) for name, value in
               (("tokens", all_tokens), ("token_offset", offsets), ("rows", packed))}
    path, torch_version = folder / "references.safetensors", torch.__version__.split("+")[0]
    # One key: safetensors writes several in random order.
    save_file(arrays, path, metadata={"made_with": f"torch {torch_version}, transformers {transformers.__version__}"})
    path.chmod(0o644)


# ---------------------------------------------------------------- the models

ROWS = ([0], [1], [6], [18], [5, 64, 66])
SCALE = {"q_proj": 1.4, "k_proj": 1.4, "c_attn": 1.4, "gate_proj": 1.5, "up_proj": 1.3, "c_fc": 1.5, "lm_head": 2.0}


def random_weights(model, seed):
    """Biases and gains that matter, attention that is not uniform, activations in their bent part."""
    rng = np.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            values = rng.normal(1.0 if name.endswith("weight") else 0.0, 0.4, parameter.shape)
        elif "embed" in name or "wte" in name or "wpe" in name:
            values = rng.normal(0, 0.5 if "wpe" in name else 1.0, parameter.shape)
        else:
            fan_in = parameter.shape[0 if isinstance(model, GPT2LMHeadModel) else 1]
            gain = next((g for key, g in SCALE.items() if key in name), 1.0)
            values = rng.normal(0, gain / math.sqrt(fan_in), parameter.shape)
        parameter.data = torch.tensor(values, dtype=torch.float32)


def opened(folder):
    """The folder as transformers reads it, in fp64."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    return model.eval()


def fresh(name):
    folder = OUT / name
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def save(name, model, dtype=torch.float32, shard="1GB"):
    folder = fresh(name)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def edit_config(folder, **changes):
    """Changes keys of config.json; None removes one."""
    path = folder / "config.json"
    config = {k: v for k, v in (json.loads(path.read_text()) | changes).items() if k not in changes or v is not None}
    path.write_text(json.dumps(config, indent=2) + "\n")


def llama_a():
    """GQA, head size of its own, biases everywhere, llama3 rotary scaling with all three regimes, untied."""
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=61, hidden_size=24, num_attention_heads=6, num_key_value_heads=2, head_dim=8, intermediate_size=37,
        num_hidden_layers=3, max_position_embeddings=512, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        rms_norm_eps=2.0 ** -6,
        rope_parameters={"rope_type": "llama3", "rope_theta": 1000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 256}))
    random_weights(model, 1)
    folder = save("llama_a", model)
    write_references(folder, opened(folder), ROWS, 101)


def llama_b():
    """Linear rotary scaling spelt as before transformers 5, tied, F16, several shards."""
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=67, hidden_size=20, num_attention_heads=5, num_key_value_heads=5, intermediate_size=33,
        num_hidden_layers=2, max_position_embeddings=256, tie_word_embeddings=True, rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}))
    random_weights(model, 2)
    folder = save("llama_b", model, torch.float16, "9KB")
    assert 2 <= len(list(folder.glob("*.safetensors"))) <= 3
    edit_config(folder, rope_parameters=None, rope_theta=500.0, rope_scaling={"type": "linear", "factor": 4.0},
                dtype=None, torch_dtype="float16", head_dim=None)
    write_references(folder, opened(folder), ROWS, 112)


def mistral():
    """Sliding window shorter than two of the prompts, BF16, old spelling of the config."""
    model = MistralForCausalLM(MistralConfig(
        vocab_size=71, hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=10, intermediate_size=41,
        num_hidden_layers=2, max_position_embeddings=128, sliding_window=16, tie_word_embeddings=False,
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}))
    random_weights(model, 3)
    folder = save("mistral", model, torch.bfloat16)
    edit_config(folder, rope_parameters=None, rope_theta=10000.0, dtype=None, torch_dtype="bfloat16")
    write_references(folder, opened(folder), ([0], [], [6], [15, 16], [17, 66]), 103)


def gpt2():
    """As transformers saves it; bare: without the prefix, with the mask buffers and config of the hub's file."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=59, n_positions=68, n_embd=20, n_layer=2, n_head=4,
                                       layer_norm_epsilon=2.0 ** -8, bos_token_id=58, eos_token_id=58))
    random_weights(model, 4)
    folder = save("gpt2", model)
    write_references(folder, opened(folder), ROWS, 104)
    tensors = load_file(folder / "model.safetensors")
    assert all(name.startswith("transformer.") for name in tensors)
    bare = fresh("gpt2_bare")
    tensors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = np.tril(np.ones((68, 68), np.float32)).reshape(1, 1, 68, 68)
    save_file(tensors, bare / "model.safetensors", metadata={"format": "pt"})
    (bare / "config.json").write_text(json.dumps({
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 58,
        "embd_pdrop": 0.1, "eos_token_id": 58, "initializer_range": 0.02, "layer_norm_epsilon": 2.0 ** -8,
        "model_type": "gpt2", "n_ctx": 68, "n_embd": 20, "n_head": 4, "n_layer": 2, "n_positions": 68,
        "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
        "summary_type": "cls_index", "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "vocab_size": 59},
        indent=2) + "\n")
    (bare / "model.safetensors").chmod(0o644)
    same(bare, "gpt2")
    for ours, theirs in zip(opened(bare).parameters(), opened(folder).parameters()):
        assert torch.equal(ours, theirs)


def qwen2():
    """Biases on q, k and v only, one key head, tied; a sliding window that the config switches off."""
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=73, hidden_size=24, num_attention_heads=3, num_key_value_heads=1, intermediate_size=43,
        num_hidden_layers=2, max_position_embeddings=128, tie_word_embeddings=True, use_sliding_window=False,
        rms_norm_eps=1e-6, bos_token_id=0, eos_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}))
    random_weights(model, 5)
    folder = save("qwen2", model)
    edit_config(folder, rope_parameters=None, rope_theta=1000000.0, dtype=None, torch_dtype="float32", layer_types=None,
                sliding_window=8, max_window_layers=1)
    write_references(folder, opened(folder), ROWS, 105)


# ---------------------------------------------------------------- GGUF


def same(folder, name):
    (folder / "same_as").write_text(name + "\n")


LAYER_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm", "ln_2": "ffn_norm"}
OUTER_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm"}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in OUTER_NAMES:
        return f"{OUTER_NAMES[stem]}.{kind}"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[inner]}.{kind}"


def consecutive_pairs(x, n_heads):
    """Rows of q and k from rotary halves to rotary pairs."""
    return x.reshape(n_heads, 2, x.shape[0] // n_heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def write_gguf(name, model, arch, type_of=lambda name: Q.F32, old_gpt2=False):
    """Writes model (float32 parameters) and gives its parameters the values that a reader of the file sees."""
    folder, config = fresh(name), model.config
    writer = GGUFWriter(folder / "model.gguf", arch)
    writer.add_name(folder.name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if arch == "gpt2":
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        rope = config.rope_parameters
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        if arch == "llama":
            writer.add_key_length(config.head_dim)
            writer.add_value_length(config.head_dim)
            writer.add_vocab_size(config.vocab_size)
            writer.add_rope_dimension_count(config.head_dim)
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        elif rope["rope_type"] == "llama3":
            divisors = llama3_divisors(rope, base_frequencies(rope, config.head_dim))
            writer.add_tensor("rope_freqs.weight", np.array(divisors, np.float32))
    writer.add_file_type(0 if type_of("token_embd.weight") == Q.F32 else 7)
    writer.add_quantization_version(2)
    for name, parameter in model.named_parameters():
        new, flip = gguf_name(name), arch == "gpt2" and parameter.dim() == 2 and ".h." in name  # Conv1D
        value = parameter.data.numpy().T if flip else parameter.data.numpy()
        value = np.ascontiguousarray(value)
        kind = type_of(new) if value.ndim == 2 and not new.startswith("position") else Q.F32
        read = quants.dequantize(quants.quantize(value, kind), kind).reshape(value.shape)
        parameter.data = torch.tensor(np.ascontiguousarray(read.T if flip else read))
        if arch == "llama" and (".attn_q." in new or ".attn_k." in new):
            heads = config.num_attention_heads if ".attn_q." in new else config.num_key_value_heads
            value = consecutive_pairs(value, heads)
        data = quants.quantize(np.ascontiguousarray(value), kind)
        writer.add_tensor(new, data, raw_dtype=kind)
        if new == "token_embd.weight" and old_gpt2:
            writer.add_tensor("output.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def from_folder(name):
    return transformers.AutoModelForCausalLM.from_pretrained(OUT / name, dtype=torch.float32)


def ggufs():
    """F32 files of models that are there already, and two whose references come from the dequantised weights."""
    for arch, name in (("llama", "llama_a"), ("gpt2", "gpt2"), ("qwen2", "qwen2")):
        same(write_gguf(f"{name}_gguf", from_folder(name), arch), name)

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=65, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=64,
        num_hidden_layers=2, max_position_embeddings=128, tie_word_embeddings=True, rms_norm_eps=2.0 ** -10,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}))
    random_weights(model, 6)
    kinds = {"attn_q": Q.Q8_0, "attn_k": Q.Q5_0, "attn_v": Q.Q5_1, "attn_output": Q.Q4_1, "ffn_gate": Q.F16,
             "ffn_up": Q.BF16, "ffn_down": Q.Q4_0, "token_embd": Q.Q8_0}
    finish_mixed("llama_mixed_gguf", model, "llama", lambda name: kinds[name.split(".")[-2]])

    model = GPT2LMHeadModel(GPT2Config(vocab_size=57, n_positions=67, n_embd=32, n_layer=2, n_head=2,
                                       layer_norm_epsilon=1e-5, bos_token_id=56, eos_token_id=56))
    random_weights(model, 7)
    kinds_gpt2 = {"attn_qkv": Q.Q8_0, "attn_output": Q.Q8_0, "ffn_up": Q.Q8_0, "ffn_down": Q.F16, "token_embd": Q.F16}
    finish_mixed("gpt2_mixed_gguf", model, "gpt2", lambda name: kinds_gpt2[name.split(".")[-2]], True)


def finish_mixed(name, model, arch, type_of, old_gpt2=False):
    folder = write_gguf(name, model, arch, type_of, old_gpt2)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        write_references(folder, opened(scratch), ([0], [], [6], [], [16, 66]), 106)


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for make in (llama_a, llama_b, mistral, gpt2, qwen2, ggufs):
        make()

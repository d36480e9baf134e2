#!/usr/bin/env python3
"""Makes the models of tests/golden/models that stand for a family each: tiny, random, with every site of them in fp64.

usage: make_decoder_references.py [OUT_FOLDER [NAME...]]       (default: models/ beside this file, all of them)

Made with torch 2.15.0, transformers 5.24.0, safetensors 0.8.0, numpy 2.4.6, Python 3.11 on x86-64.
The files are those of make_model_references.py; sites come from decoder_sites.py. Weights are saved as F16.
NAME_hub is the model NAME with config.json, tensor names and saved buffers as files on the hub have them.
"""
import json
import math
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers as T
from safetensors.numpy import load_file, save_file

from decoder_sites import lens_of, opened, sites_of

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "models")

LENGTHS = (1, 6, 70)
ROWS = ([0], [5], [33, 69])  # stored positions of each

# Sizes that are no multiple of anything, as each family spells them.
LLAMA = dict(vocab_size=61, hidden_size=24, intermediate_size=38, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=96)
OWN_HEAD = LLAMA | dict(head_dim=10)
ODD = LLAMA | dict(hidden_size=30, num_attention_heads=3, num_key_value_heads=1)  # heads of 10
GPT = dict(vocab_size=61, n_embd=30, n_layer=2, n_head=5, n_positions=72)
PLAIN = dict(vocab_size=61, hidden_size=30, num_hidden_layers=2, num_attention_heads=3)
PAIR = ["sliding_attention", "full_attention"]
IDS = dict(pad_token_id=0, bos_token_id=0, eos_token_id=0)

MODELS = {
    "llama_yarn": lambda: T.LlamaConfig(**OWN_HEAD, rope_parameters=dict(
        rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=24)),
    "mixtral": lambda: T.MixtralConfig(**ODD, num_local_experts=5, num_experts_per_tok=2, sliding_window=9),
    "gpt_bigcode": lambda: T.GPTBigCodeConfig(**GPT),
    "gpt_bigcode_heads": lambda: T.GPTBigCodeConfig(**GPT, multi_query=False),
    "gpt2_scaled": lambda: T.GPT2Config(**GPT, scale_attn_by_inverse_layer_idx=True, activation_function="relu"),
    "gpt_neo": lambda: T.GPTNeoConfig(vocab_size=61, hidden_size=30, num_layers=2, num_heads=5, window_size=9,
                                      attention_types=[[["global", "local"], 1]], max_position_embeddings=72),
    "gptj": lambda: T.GPTJConfig(**GPT | dict(n_embd=30, n_head=3), rotary_dim=6, tie_word_embeddings=False),
    "gpt_neox": lambda: T.GPTNeoXConfig(**PLAIN, intermediate_size=46, max_position_embeddings=72,
                                        rope_parameters=dict(rope_type="default", rope_theta=1e4,
                                                             partial_rotary_factor=0.4)),
    "gpt_neox_sequential": lambda: T.GPTNeoXConfig(**PLAIN, intermediate_size=46, max_position_embeddings=72,
                                                   use_parallel_residual=False, hidden_act="gelu_new"),
    "opt": lambda: T.OPTConfig(**PLAIN, ffn_dim=46, max_position_embeddings=72, word_embed_proj_dim=30),
    "opt_post": lambda: T.OPTConfig(**PLAIN, ffn_dim=46, max_position_embeddings=72, word_embed_proj_dim=21,
                                    do_layer_norm_before=False),
    "bloom": lambda: T.BloomConfig(vocab_size=61, hidden_size=30, n_layer=2, n_head=5),
    "qwen2_moe": lambda: T.Qwen2MoeConfig(**LLAMA, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=15,
                                          shared_expert_intermediate_size=23),
    "qwen3": lambda: T.Qwen3Config(**OWN_HEAD),
    "qwen3_moe": lambda: T.Qwen3MoeConfig(**OWN_HEAD, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=15,
                                          norm_topk_prob=True),
    "gemma": lambda: T.GemmaConfig(**OWN_HEAD),
    "gemma2": lambda: T.Gemma2Config(**OWN_HEAD, sliding_window=6, query_pre_attn_scalar=7, layer_types=PAIR,
                                     attn_logit_softcapping=4.0, final_logit_softcapping=9.0),
    "gemma3_text": lambda: T.Gemma3TextConfig(**OWN_HEAD, sliding_window=6, query_pre_attn_scalar=7,
                                              layer_types=PAIR),
    "phi": lambda: T.PhiConfig(**ODD, partial_rotary_factor=0.4),
    "phi_norms": lambda: T.PhiConfig(**LLAMA, qk_layernorm=True, partial_rotary_factor=0.67),
    "phi3": lambda: T.Phi3Config(**ODD, sliding_window=11, **IDS),
    "phi3_long": lambda: T.Phi3Config(**LLAMA, **IDS, original_max_position_embeddings=40, rope_parameters=dict(
        rope_type="longrope", rope_theta=1e4, original_max_position_embeddings=40,
        short_factor=[1.0, 1.25, 1.5], long_factor=[2.0, 3.0, 5.0])),
    "olmo": lambda: T.OlmoConfig(**ODD, clip_qkv=2.0),
    "olmo2": lambda: T.Olmo2Config(**LLAMA),
    "stablelm": lambda: T.StableLmConfig(**LLAMA | dict(hidden_size=40), use_qkv_bias=True),
    "stablelm_parallel": lambda: T.StableLmConfig(**LLAMA | dict(hidden_size=40), use_parallel_residual=True,
                                                 qk_layernorm=True),
    "falcon": lambda: T.FalconConfig(**PLAIN),
    "falcon_grouped": lambda: T.FalconConfig(**PLAIN | dict(hidden_size=24, num_attention_heads=4), num_kv_heads=2,
                                             new_decoder_architecture=True),
    "falcon_alibi": lambda: T.FalconConfig(**PLAIN, alibi=True, multi_query=False, parallel_attn=False, bias=True),
    "mpt": lambda: T.MptConfig(vocab_size=61, d_model=30, n_heads=5, n_layers=2, max_seq_len=72,
                               attn_config=dict(clip_qkv=0.9)),
    "starcoder2": lambda: T.Starcoder2Config(**ODD, sliding_window=9),
    "cohere": lambda: T.CohereConfig(**LLAMA | dict(num_key_value_heads=1), **IDS, use_qk_norm=True, logit_scale=0.25),
    "cohere2": lambda: T.Cohere2Config(**ODD, **IDS, sliding_window=6, layer_types=PAIR, logit_scale=0.3),
    "granite": lambda: T.GraniteConfig(**LLAMA, embedding_multiplier=3.0, residual_multiplier=0.3,
                                       attention_multiplier=0.2, logits_scaling=1.5),
    "smollm3": lambda: T.SmolLM3Config(**ODD, **IDS, no_rope_layers=[1, 0]),
}

STRONG = ("q_proj", "k_proj", "qkv", "c_attn", "query_key_value", "gate", "up_proj", "fc", "dense_h_to_4h")


def random_weights(model, seed):
    """Biases and gains that matter, attention that is not uniform, activations in their bent part."""
    rng = np.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        norm = any(part in name.rsplit(".", 2)[-2] for part in ("norm", "ln")) or ".norms." in name
        if norm and name.endswith("weight"):
            one = 0.0 if "gemma" in model.config.model_type else 1.0
            strong = any(part in name for part in ("q_norm", "k_norm", "q_layernorm", "k_layernorm"))
            values = rng.normal(one + 0.6 * strong, 0.4, parameter.shape)
        elif parameter.dim() == 1:
            values = rng.normal(0.0, 0.4, parameter.shape)
        elif any(part in name for part in ("embed", "wte", "wpe", "lm_head")):
            values = rng.normal(0, 0.5 if "pos" in name or "wpe" in name else 1.0, parameter.shape)
        else:
            conv = "Conv1D" in type(model.get_submodule(name.rsplit(".", 1)[0])).__name__
            fan_in = parameter.shape[0 if conv else -1]
            gain = 1.4 if any(part in name for part in STRONG) else 1.0
            values = rng.normal(0, gain / math.sqrt(fan_in), parameter.shape)
        parameter.data = torch.tensor(values, dtype=torch.float32)


def write_references(folder, model, seed):
    """References of ragged prompts."""
    rng = np.random.default_rng(seed)
    vocabulary, out, all_tokens, offsets, packed = model.config.vocab_size, {}, [], [0], []
    for p, (length, stored) in enumerate(zip(LENGTHS, ROWS)):
        tokens = rng.integers(0, vocabulary, length).tolist()
        tokens[-1] = (vocabulary - 1, tokens[0], 0)[p]  # first and last id, repeated tokens
        sites = sites_of(model, tokens)
        for name, value in sites.items():
            edges = name.endswith(("attn_scores", "pattern"))
            assert value.dtype == torch.float64 and (edges or value.isfinite().all()), name
            assert not (name.endswith("pattern") and length > 60) or value[:, 32:].max() > 0.4  # not uniform
            if edges:
                out[f"{name}.{p}"] = [value[:, stored]]
            else:
                out.setdefault(name, []).append(value[stored])
        for name, value in lens_of(model, sites, stored, fixed=vocabulary // 2).items():
            out.setdefault(f"lens.{name}", []).append(value)
        packed += [offsets[-1] + row for row in stored]
        all_tokens += tokens
        offsets.append(len(all_tokens))
    arrays = {name: np.ascontiguousarray(torch.cat(parts).detach().numpy()) for name, parts in out.items()}
    arrays |= {name: np.array(value, np.int32) for name, value in
               (("tokens", all_tokens), ("token_offset", offsets), ("rows", packed))}
    path, torch_version = folder / "references.safetensors", torch.__version__.split("+")[0]
    save_file(arrays, path, metadata={"made_with": f"torch {torch_version}, transformers {T.__version__}"})
    path.chmod(0o644)


def make(name, config, seed):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = T.AutoModelForCausalLM.from_config(config)
    random_weights(model, seed)
    model.to(torch.float16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)
    write_references(folder, opened(folder, config.model_type), 1000 + seed)


# ---------------------------------------------------------------- as on the hub

ROPE = {"rope_parameters": None, "rope_theta": 10000.0}
# Keys of config.json that differ; None removes one, NULL is null.
NULL = "null"
HUB = {
    "bloom": {"hidden_size": None, "n_head": None, "n_embed": 30, "num_attention_heads": 5, "n_inner": NULL,
              "offset_alibi": 100, "seq_length": 2048, "masked_softmax_fusion": True, "skip_bias_add": True,
              "tie_word_embeddings": None},
    "falcon": ROPE | {"rope_theta": None, "activation": None, "ffn_hidden_size": None, "num_kv_heads": None,
                      "num_ln_in_parallel_attn": None, "max_position_embeddings": None, "tie_word_embeddings": None},
    "gemma": ROPE | {"hidden_act": "gelu", "hidden_activation": NULL, "tie_word_embeddings": None},
    "gemma2": ROPE | {"hidden_act": "gelu_pytorch_tanh", "layer_types": None, "cache_implementation": "hybrid",
                      "tie_word_embeddings": None},
    "gemma3_text": {"rope_parameters": None, "layer_types": None, "_sliding_window_pattern": None,
                    "sliding_window_pattern": 2, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
                    "rope_scaling": NULL},
    "cohere2": ROPE | {"layer_types": None, "sliding_window_pattern": 2, "use_embedding_sharing": True,
                       "use_parallel_block": True, "position_embedding_type": "rope_gptj", "rotary_pct": 1.0},
    "gpt_neo": {"attention_layers": None, "resid_dropout": 0, "tie_word_embeddings": None},
    "gpt_neox": {"rope_parameters": None, "rotary_pct": 0.4, "rotary_emb_base": 10000, "attention_bias": None},
    "gptj": {"rotary": True, "scale_attn_weights": True, "n_inner": NULL},
    "llama_yarn": {"rope_parameters": None, "rope_theta": 500.0, "pretraining_tp": 1, "rope_scaling": {
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24, "finetuned": True}},
    "opt_post": {"enable_bias": None, "layer_norm_elementwise_affine": None, "prefix": "</s>",
                 "_remove_final_layer_norm": None, "tie_word_embeddings": None},
    "phi": ROPE | {"partial_rotary_factor": 0.4, "rope_scaling": NULL},
    "phi3_long": ROPE | {"rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.25, 1.5],
                                          "long_factor": [2.0, 3.0, 5.0]}},
    "qwen3_moe": ROPE | {"num_local_experts": None, "num_experts": 6, "max_window_layers": 48, "rope_scaling": NULL},
    "smollm3": {"rope_parameters": None, "rope_theta": 2000000.0, "no_rope_layers": None, "no_rope_layer_interval": 2,
                "max_window_layers": 28},
    "stablelm": ROPE | {"partial_rotary_factor": 0.25, "rotary_scaling_factor": 1.0},
}
PREFIX = {"bloom": "transformer.", "opt_post": "model."}  # that the hub's files do not have
BUFFERS = {"gpt_neo": ("transformer.h.{}.attn.attention.", "bias", "masked_bias"),
           "gpt_neox": ("gpt_neox.layers.{}.attention.", "bias", "masked_bias", "rotary_emb.inv_freq"),
           "gptj": ("transformer.h.{}.attn.", "bias", "masked_bias"),
           "stablelm": ("model.layers.{}.self_attn.", "rotary_emb.inv_freq")}


def hub_tensors(name, model):
    if name == "qwen3_moe":  # all experts in one tensor, as transformers 5 holds them
        tensors = {key: value.numpy() for key, value in model.half().state_dict().items()}
    else:
        tensors = load_file(OUT / name / "model.safetensors")
    tensors = {key.removeprefix(PREFIX.get(name, "")): value for key, value in tensors.items()}
    stem, *buffers = BUFFERS.get(name, ("{}",))
    for layer in range(2):
        for buffer in buffers:
            value = np.tril(np.ones((1, 1, 8, 8), np.bool_)) if buffer == "bias" else np.full(5, -1e9, np.float32)
            tensors[stem.format(layer) + buffer] = value
    return tensors


def make_hub(name):
    folder, twin = OUT / f"{name}_hub", OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = opened(twin, json.loads((twin / "config.json").read_text())["model_type"])
    config = json.loads((twin / "config.json").read_text()) | HUB[name]
    config = {k: None if v == NULL else v for k, v in config.items() if v is not None or k not in HUB[name]}
    config = {k: v for k, v in config.items() if k not in ("dtype", "transformers_version")} | {"torch_dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(hub_tensors(name, model), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "same_as").write_text(name + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)
    read, tokens = opened(folder, config["model_type"]), list(range(50))
    with torch.no_grad():
        ours, theirs = (m.float()(torch.tensor([tokens])).logits for m in (opened(twin, config["model_type"]), read))
    assert torch.equal(ours, theirs), name


if __name__ == "__main__":
    T.utils.logging.set_verbosity_error()
    T.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for number, (name, config) in enumerate(MODELS.items()):
        if name in sys.argv[2:] or len(sys.argv) <= 2:
            make(name, config(), 20 + number)
    for name in HUB:
        if name + "_hub" in sys.argv[2:] or len(sys.argv) <= 2:
            make_hub(name)

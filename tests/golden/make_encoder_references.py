#!/usr/bin/env python3
"""Makes the encoders of tests/golden/models: tiny random masked-LM models, and every site of them in fp64.

usage: make_encoder_references.py [OUT_FOLDER]       (default: models/ beside this file)

Made with torch 2.15.0, transformers 5.24.0, safetensors 0.8.0, numpy 2.4.6, Python 3.11 on x86-64.
The truth is a plain fp64 forward pass over the modules of the transformers model, below; wherever transformers shows
the same tensor of its own fp64 run (embeddings, every block's output, attention patterns, logits), both must agree to
rounding. Files are as make_model_references.py says.
"""
import contextlib
import json
import math
import pathlib
import sys

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers import (AlbertConfig, AlbertForMaskedLM, BertConfig, BertForMaskedLM, DebertaV2Config,
                          DebertaV2ForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, ElectraConfig, ElectraForMaskedLM, ModernBertConfig,
                          ModernBertForMaskedLM, RobertaConfig, RobertaForMaskedLM, XLMRobertaConfig,
                          XLMRobertaForMaskedLM)
from transformers.models.deberta_v2 import modeling_deberta_v2
from transformers.models.modernbert import modeling_modernbert

from fp64_sites import NoFloat32, base_frequencies, close, widen
from make_model_references import LENGTHS, ROWS, edit_config, fresh, save

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "models")

widen(modeling_modernbert, "eager_attention_forward")
widen(modeling_modernbert, "apply_rotary_pos_emb")
widen(modeling_deberta_v2, "scaled_size_sqrt")


def angles_of(config, layer, length):
    """Radians [length, d_head / 2], rounded to float32 as in training."""
    rope = config.rope_parameters[config.layer_types[layer]]
    frequencies = np.array(base_frequencies(rope, config.hidden_size // config.num_attention_heads), np.float32)
    return torch.from_numpy((np.arange(length, dtype=np.float32)[:, None] * frequencies).astype(np.float64))


def exact_rotary(self, x, position_ids, layer_type):
    angles = angles_of(self.config, self.config.layer_types.index(layer_type), position_ids.shape[-1])[None]
    twice = torch.cat((angles, angles), dim=-1)
    return twice.cos(), twice.sin()


modeling_modernbert.ModernBertRotaryEmbedding.forward = exact_rotary

# ---------------------------------------------------------------- modules by role


def bert_layer(layer):
    a = layer.attention
    return dict(q=a.self.query, k=a.self.key, v=a.self.value, o=a.output.dense, ln1=a.output.LayerNorm,
                up=layer.intermediate.dense, down=layer.output.dense, ln2=layer.output.LayerNorm)


def deberta_layer(layer):
    a = layer.attention
    return dict(q=a.self.query_proj, k=a.self.key_proj, v=a.self.value_proj, o=a.output.dense, ln1=a.output.LayerNorm,
                up=layer.intermediate.dense, down=layer.output.dense, ln2=layer.output.LayerNorm,
                position_q=getattr(a.self, "pos_query_proj", a.self.query_proj),
                position_k=getattr(a.self, "pos_key_proj", a.self.key_proj))


def distilbert_layer(layer):
    a = layer.attention
    return dict(q=a.q_lin, k=a.k_lin, v=a.v_lin, o=a.out_lin, ln1=layer.sa_layer_norm, up=layer.ffn.lin1,
                down=layer.ffn.lin2, ln2=layer.output_layer_norm)


def albert_layer(layer):
    a = layer.attention
    return dict(q=a.query, k=a.key, v=a.value, o=a.dense, ln1=a.LayerNorm, up=layer.ffn, down=layer.ffn_output,
                ln2=layer.full_layer_layer_norm)


def modernbert_layer(layer):
    q, k, v = layer.attn.Wqkv.weight.chunk(3)
    gate, up = layer.mlp.Wi.weight.chunk(2)
    bias = layer.attn.Wqkv.bias
    biases = bias.chunk(3) if bias is not None else (None,) * 3
    mlp_biases = layer.mlp.Wi.bias.chunk(2) if layer.mlp.Wi.bias is not None else (None,) * 2

    def linear(weight, bias):
        return lambda x: torch.nn.functional.linear(x, weight, bias)
    return dict(q=linear(q, biases[0]), k=linear(k, biases[1]), v=linear(v, biases[2]), o=layer.attn.Wo,
                ln1=layer.attn_norm, ln2=layer.mlp_norm, gate=linear(gate, mlp_biases[0]),
                up=linear(up, mlp_biases[1]), down=layer.mlp.Wo)


GELU = torch.nn.functional.gelu
ACTIVATIONS = {"gelu": GELU, "gelu_new": lambda x: GELU(x, approximate="tanh"), "relu": torch.relu,
               "silu": torch.nn.functional.silu}


def roles(model):
    """What the plain forward pass needs of a transformers model."""
    config, family = model.config, model.config.model_type
    r = dict(heads=config.num_attention_heads, eps=getattr(config, "layer_norm_eps", 1e-12), offset=0, post=True,
             project=None, final=None, rotary=False, n=config.num_hidden_layers)
    if family == "modernbert":
        body = model.model
        r |= dict(embed=body.embeddings.tok_embeddings, embed_norm=body.embeddings.norm, pos=None, types=None,
                  layers=[modernbert_layer(layer) for layer in body.layers], blocks=list(body.layers), post=False,
                  final=body.final_norm, dense=model.head.dense, head_norm=model.head.norm, unembed=model.decoder,
                  act=ACTIVATIONS[config.hidden_activation], head_act=ACTIVATIONS[config.classifier_activation],
                  eps=config.norm_eps, rotary=True)
        return r
    if family == "deberta-v2":
        e, p = model.deberta.embeddings, model.cls.predictions
        r |= dict(embed=e.word_embeddings, embed_norm=e.LayerNorm, pos=None, types=getattr(e, "token_type_embeddings", None),
                  layers=[deberta_layer(x) for x in model.deberta.encoder.layer],
                  blocks=list(model.deberta.encoder.layer), dense=p.transform.dense, head_norm=p.transform.LayerNorm,
                  unembed=p.decoder, act=ACTIVATIONS[config.hidden_act], head_act=ACTIVATIONS[config.hidden_act],
                  distances=model.deberta.encoder.get_rel_embedding())
        return r
    body = getattr(model, "distilbert", None) or getattr(model, "roberta", None) or getattr(
        model, "albert", None) or getattr(model, "electra", None) or getattr(model, "bert", None) or model
    e = body.embeddings
    r |= dict(embed=e.word_embeddings, pos=e.position_embeddings, types=getattr(e, "token_type_embeddings", None),
              embed_norm=e.LayerNorm, act=ACTIVATIONS[getattr(config, "activation", None) or config.hidden_act])
    if family == "distilbert":
        r |= dict(layers=[distilbert_layer(x) for x in body.transformer.layer], blocks=list(body.transformer.layer),
                  dense=model.vocab_transform, head_norm=model.vocab_layer_norm, unembed=model.vocab_projector,
                  head_act=r["act"])
    elif family == "albert":
        groups = body.encoder.albert_layer_groups
        blocks = [groups[int(i / (r["n"] / config.num_hidden_groups))].albert_layers[0] for i in range(r["n"])]
        r |= dict(layers=[albert_layer(x) for x in blocks], blocks=blocks, dense=model.predictions.dense,
                  project=body.encoder.embedding_hidden_mapping_in, head_norm=model.predictions.LayerNorm,
                  unembed=model.predictions.decoder, head_act=r["act"])
    else:
        r |= dict(layers=[bert_layer(x) for x in body.encoder.layer], blocks=list(body.encoder.layer))
    if family == "bert" and hasattr(model, "cls"):
        p = model.cls.predictions
        r |= dict(dense=p.transform.dense, head_norm=p.transform.LayerNorm, unembed=p.decoder, head_act=r["act"])
    elif family in ("roberta", "xlm-roberta"):
        r |= dict(dense=model.lm_head.dense, head_norm=model.lm_head.layer_norm, unembed=model.lm_head.decoder,
                  head_act=GELU, offset=config.pad_token_id + 1)
    elif family == "electra":
        r |= dict(dense=model.generator_predictions.dense, head_norm=model.generator_predictions.LayerNorm,
                  unembed=model.generator_lm_head, head_act=GELU, project=getattr(body, "embeddings_project", None))
    return r


# ---------------------------------------------------------------- the plain forward pass


def normalise(sites, prefix, x, norm):
    """LayerNorm by its definition; an identity has scale 1."""
    if isinstance(norm, torch.nn.Identity):
        scale, normalized, out = torch.ones_like(x[:, :1]), x, x
    else:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt()
        normalized = centred / scale
        out = normalized * norm.weight + (norm.bias if norm.bias is not None else 0)
    if prefix:
        sites |= {prefix + ".hook_scale": scale, prefix + ".hook_normalized": normalized, prefix + ".hook_out": out}
    return out


def head(r, x, sites=None):
    """States of the stream to logits, by the model's own masked-LM head."""
    sites = {} if sites is None else sites
    shape, x = x.shape, x.reshape(-1, x.shape[-1])
    if r["final"] is not None:
        x = normalise(sites, "ln_final", x, r["final"])
    x = normalise(sites, "mlm_head.ln", r["head_act"](r["dense"](x)), r["head_norm"])
    return r["unembed"](x).reshape(*shape[:-1], -1)


def bucket(distance, config):
    """DeBERTa-v2's logarithmic buckets."""
    size, middle = abs(distance), getattr(config, "position_buckets", -1) // 2
    longest = config.max_relative_positions if config.max_relative_positions > 0 else config.max_position_embeddings
    if middle <= 0 or size <= middle:
        return distance
    f = np.float32
    log = math.ceil(np.log(f(size) / f(middle)) / np.log(f((longest - 1) / middle)) * f(middle - 1)) + middle
    return log if distance > 0 else -log


def attention(sites, b, r, layer, x, number, config):
    T, H = len(x), r["heads"]
    q, k, v = (layer[name](x).reshape(T, H, -1) for name in "qkv")
    sites |= {b + "attn.hook_q": q, b + "attn.hook_k": k, b + "attn.hook_v": v}
    visible = torch.ones(T, T, dtype=torch.bool)
    if r["rotary"]:
        angles = angles_of(config, number, T)
        turn = torch.polar(torch.ones_like(angles), angles)[:, None, :]

        def rotate(x):
            turned = torch.view_as_complex(torch.stack(x.chunk(2, -1), -1)) * turn
            return torch.cat((turned.real, turned.imag), -1)
        q, k = rotate(q), rotate(k)
        sites |= {b + "attn.hook_rot_q": q, b + "attn.hook_rot_k": k}
        if config.layer_types[number] == "sliding_attention":
            distance = torch.arange(T)[:, None] - torch.arange(T)[None]
            visible = distance.abs() <= config.local_attention // 2
    scores, factor = torch.einsum("qhd,khd->hqk", q, k), 1
    if "distances" in r:
        # Every pair's own vector, by the bucket of its distance (float32, as in training).
        table, span = r["distances"], len(r["distances"]) // 2
        row = [[min(max(bucket(i - j, config) + span, 0), 2 * span - 1) for j in range(T)] for i in range(T)]
        if "c2p" in config.pos_att_type:
            far_k = layer["position_k"](table).reshape(2 * span, H, -1)[torch.tensor(row)]
            scores, factor = scores + torch.einsum("qhd,qkhd->hqk", q, far_k), factor + 1
        if "p2c" in config.pos_att_type:
            far_q = layer["position_q"](table).reshape(2 * span, H, -1)[torch.tensor(row)]
            scores, factor = scores + torch.einsum("khd,qkhd->hqk", k, far_q), factor + 1
    scores = scores / math.sqrt(q.shape[-1] * factor)
    scores = scores.masked_fill(~visible, -math.inf)
    pattern = scores.softmax(-1)
    z = torch.einsum("hqk,khd->qhd", pattern, v)
    w_o, bias = layer["o"].weight.T.reshape(H, -1, layer["o"].weight.shape[0]), layer["o"].bias
    result = torch.einsum("qhd,hdo->qho", z, w_o)
    sites |= {b + "attn.hook_attn_scores": scores, b + "attn.hook_pattern": pattern, b + "attn.hook_z": z,
              b + "attn.hook_result": result}
    return result.sum(1) + (bias if bias is not None else 0)


def mlp(sites, b, r, layer, x):
    if "gate" in layer:
        sites[b + "mlp.hook_pre"], sites[b + "mlp.hook_pre_linear"] = layer["gate"](x), layer["up"](x)
        post = r["act"](sites[b + "mlp.hook_pre"]) * sites[b + "mlp.hook_pre_linear"]
    else:
        sites[b + "mlp.hook_pre"] = layer["up"](x)
        post = r["act"](sites[b + "mlp.hook_pre"])
    sites[b + "mlp.hook_post"] = post
    return layer["down"](post)


def embed(sites, r, tokens):
    x = r["embed"].weight[tokens]
    if r["pos"] is None and r["types"] is None:
        sites["hook_embed"] = normalise(sites, None, x, r["embed_norm"])
        return sites["hook_embed"]
    sites["hook_embed"] = x
    if r["pos"] is not None:
        sites["hook_pos_embed"] = r["pos"].weight[r["offset"] + torch.arange(len(tokens))]
        x = x + sites["hook_pos_embed"]
    if r["types"] is not None:
        sites["hook_token_type_embed"] = r["types"].weight[[0] * len(tokens)]
        x = x + sites["hook_token_type_embed"]
    x = normalise(sites, None, x, r["embed_norm"])
    sites["hook_full_embed"] = x if r["project"] is None else r["project"](x)
    return sites["hook_full_embed"]


def encode(r, config, tokens):
    """({site: tensor}, outputs of the blocks)."""
    sites, outputs = {}, []
    x = embed(sites, r, tokens)
    for number, layer in enumerate(r["layers"]):
        b = f"blocks.{number}."
        sites[b + "hook_resid_pre"] = x
        read = x if r["post"] else normalise(sites, b + "ln1", x, layer["ln1"])
        sites[b + "hook_attn_out"] = attention(sites, b, r, layer, read, number, config)
        x = sites[b + "hook_resid_mid"] = x + sites[b + "hook_attn_out"]
        read = normalise(sites, b + ("ln1" if r["post"] else "ln2"), x, layer["ln1" if r["post"] else "ln2"])
        sites[b + "hook_mlp_out"] = mlp(sites, b, r, layer, read)
        x = sites[b + "hook_resid_post"] = (read if r["post"] else x) + sites[b + "hook_mlp_out"]
        if r["post"]:
            x = normalise(sites, b + "ln2", x, layer["ln2"])
            sites[b + "hook_normalized_resid_post"] = sites.pop(b + "ln2.hook_out")
        outputs.append(x)
    sites["logits"] = head(r, x, sites)
    return sites, outputs


def sites_of(model, tokens):
    """The plain pass, and transformers' own run beside it."""
    r, config = roles(model), model.config
    # DeBERTa's buckets are made from float32 logarithms.
    exact = contextlib.nullcontext() if "distances" in r else NoFloat32()
    with torch.no_grad(), exact:
        sites, outputs = encode(r, config, tokens)
        seen = []
        handles = [block.register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out))
                   for block in dict.fromkeys(r["blocks"])]
        run = model(torch.tensor([tokens]), output_attentions=True)
        for handle in handles:
            handle.remove()
    assert len(seen) == len(outputs) == len(run.attentions)
    for number, (ours, theirs) in enumerate(zip(outputs, seen)):
        close(ours, theirs.reshape(ours.shape), f"block {number}")
        close(sites[f"blocks.{number}.attn.hook_pattern"], run.attentions[number][0], f"pattern {number}")
    close(sites["logits"], run.logits[0], "logits")
    return sites


def lens_of(model, sites, rows, fixed):
    """The lens at every depth: what enters each block and what leaves the last, through the model's own head."""
    r = roles(model)
    last = "hook_normalized_resid_post" if r["post"] else "hook_resid_post"
    states = [sites[f"blocks.{l}.hook_resid_pre"] for l in range(r["n"])] + [sites[f"blocks.{r['n'] - 1}.{last}"]]
    with torch.no_grad(), NoFloat32():
        logits = head(r, torch.stack(states, 1)[rows])
    logprob = logits.log_softmax(-1)
    close(logits[:, -1], sites["logits"][rows], "lens")
    answer = torch.stack((logits[:, -1].argmax(-1), torch.full((len(rows),), fixed)), 1)
    index = answer[:, :, None, None].expand(-1, -1, len(states), 1)
    wide = logits[:, None].expand(-1, 2, -1, -1)
    own = wide.gather(-1, index)
    top = logits.topk(6, -1)
    assert ((wide - own).abs() + 1e9 * (torch.arange(wide.shape[-1]) == index)).min() > 4e-5  # no near ties
    assert (top.values[..., :-1] - top.values[..., 1:]).min() > 4e-5
    p = logprob.exp()
    return {"answer": answer.int(), "rank": (1 + (wide > own).sum(-1)).int(),
            "logprob": logprob[:, None].expand(-1, 2, -1, -1).gather(-1, index)[..., 0],
            "entropy": -(p * logprob).sum(-1),
            "kl_final": (p[:, -1:] * (logprob[:, -1:] - logprob)).sum(-1), "top_token": top.indices[..., :5].int()}


def write_references(folder, model, seed, rows=ROWS, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    vocabulary, out, all_tokens, offsets, packed = model.config.vocab_size, {}, [], [0], []
    for p, (length, stored) in enumerate(zip(lengths, rows)):
        tokens = rng.integers(5, vocabulary, length).tolist()  # no padding: RoBERTa would count without it
        tokens[-1] = (4, vocabulary - 1, 4, tokens[0], tokens[3 % length])[p]
        sites = sites_of(model, tokens)
        for name, value in sites.items():
            edges = name.endswith(("attn_scores", "pattern"))
            assert value.dtype == torch.float64 and (edges or value.isfinite().all()), name
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
    save_file(arrays, path, metadata={"made_with": f"torch {torch_version}, transformers {transformers.__version__}"})
    path.chmod(0o644)


# ---------------------------------------------------------------- the models

SIZES = dict(vocab_size=61, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=37,
             max_position_embeddings=72)


def random_weights(model, seed):
    """Biases and gains that matter, attention that is not uniform."""
    rng = np.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            values = rng.normal(1.0 if name.endswith("weight") else 0.0, 0.4, parameter.shape)
        elif "embeddings." in name:
            values = rng.normal(0, 1.0 if "word" in name or "tok_" in name else 0.5, parameter.shape)
        else:
            gain = 2.0 if any(x in name for x in ("query", "key", "q_lin", "k_lin", "Wqkv")) else 1.4
            values = rng.normal(0, gain / math.sqrt(parameter.shape[1]), parameter.shape)
        parameter.data = torch.tensor(values, dtype=torch.float32)


def make(name, model, seed, **options):
    random_weights(model, seed)
    folder = save(name, model)
    opened = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    write_references(folder, opened.eval(), 100 + seed, **options)
    return folder


def bert():
    """As transformers saves it; old: gamma and beta, a pooler, the next-sentence head, buffers, a second bias."""
    make("bert", BertForMaskedLM(BertConfig(**SIZES, layer_norm_eps=1e-5)), 21)
    tensors = load_file(OUT / "bert" / "model.safetensors")
    assert "cls.predictions.decoder.weight" not in tensors and "cls.predictions.bias" in tensors
    old = fresh("bert_old")
    tensors = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
               for name, value in tensors.items()}
    tensors |= {"bert.embeddings.position_ids": np.arange(72)[None], "cls.predictions.decoder.weight":
                tensors["bert.embeddings.word_embeddings.weight"], "cls.predictions.decoder.bias":
                tensors["cls.predictions.bias"], "cls.seq_relationship.weight": np.ones((2, 24), np.float32),
                "cls.seq_relationship.bias": np.ones(2, np.float32), "bert.pooler.dense.weight":
                np.ones((24, 24), np.float32), "bert.pooler.dense.bias": np.ones(24, np.float32)}
    save_file(tensors, old / "model.safetensors", metadata={"format": "pt"})
    (old / "model.safetensors").chmod(0o644)
    config = json.loads((OUT / "bert" / "config.json").read_text())
    for key in ("dtype", "is_decoder", "add_cross_attention", "tie_word_embeddings", "transformers_version"):
        config.pop(key, None)
    (old / "config.json").write_text(json.dumps(config | {
        "architectures": ["BertForPreTraining"], "gradient_checkpointing": False, "position_embedding_type": "absolute"},
        indent=2) + "\n")
    (old / "same_as").write_text("bert\n")


def roberta():
    make("roberta", RobertaForMaskedLM(RobertaConfig(**SIZES | dict(max_position_embeddings=74), type_vocab_size=1,
                                                     layer_norm_eps=1e-5, hidden_act="relu")), 22)


def xlm_roberta():
    """Padding elsewhere; untied."""
    make("xlm_roberta", XLMRobertaForMaskedLM(XLMRobertaConfig(
        **SIZES | dict(max_position_embeddings=76), type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=3,
        tie_word_embeddings=False)), 33)


def distilbert():
    make("distilbert", DistilBertForMaskedLM(DistilBertConfig(
        vocab_size=59, dim=20, n_layers=2, n_heads=4, hidden_dim=33, max_position_embeddings=70)), 24)


def albert():
    """Four layers of two groups; the embedding is narrower than the stream."""
    make("albert", AlbertForMaskedLM(AlbertConfig(
        **SIZES | dict(num_hidden_layers=4), embedding_size=10, num_hidden_groups=2, layer_norm_eps=1e-5)), 25,
        rows=([0], [], [6], [18], [66]))


def deberta():
    """Logarithmic buckets, the content's projections; b: projections of their own, one direction, nothing normalised."""
    make("deberta_v2", DebertaV2ForMaskedLM(DebertaV2Config(
        **SIZES, relative_attention=True, position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True,
        pos_att_type="p2c|c2p", position_biased_input=False, layer_norm_eps=1e-5)), 28)
    make("deberta_v2_b", DebertaV2ForMaskedLM(DebertaV2Config(
        **SIZES, relative_attention=True, max_relative_positions=6, type_vocab_size=2, pos_att_type=["c2p", "p2c"],
        position_biased_input=False)), 29, rows=([0], [], [6], [], [66]))


def electra():
    """The embedding is wider than the stream, as in the hub's base generator."""
    make("electra", ElectraForMaskedLM(ElectraConfig(**SIZES, embedding_size=28)), 26)


def modernbert():
    """A full layer, two that look 3 tokens to either side, a full one."""
    folder = make("modernbert", ModernBertForMaskedLM(ModernBertConfig(
        **SIZES | dict(num_hidden_layers=4), local_attention=6, norm_eps=1e-5, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, cls_token_id=1, sep_token_id=2)), 27, rows=([0], [], [6], [], [66]))
    edit_config(folder, layer_types=None, rope_parameters=None, global_rope_theta=160000.0, local_rope_theta=10000.0,
                global_attn_every_n_layers=3, sliding_window=None)


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for build in (bert, roberta, xlm_roberta, distilbert, albert, electra, modernbert, deberta):
        build()

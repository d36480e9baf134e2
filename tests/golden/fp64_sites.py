"""Every site of a transformers model in fp64, from the weights as stored: the oracle of the golden tests.

The truth is the transformers model in fp64 with eager attention. transformers computes norms and softmax in float32
whatever the model's dtype; widen() recompiles those few functions with float64 in place of float32, and a dispatch mode
proves that no float32 tensor is left in the forward pass. Rotary angles are part of the model: position times
frequency, rounded to float32 as in training; their cosines and sines are in fp64. Sites are taken from forward hooks where
transformers has the tensor; the rest is a few lines of own fp64, compared with transformers.

Made with torch 2.15.0, transformers 5.24.0.
"""
import inspect
import math
import sys
import textwrap

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2LMHeadModel
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2

EXACT = 1e-12  # two fp64 routes to the same number

# ---------------------------------------------------------------- transformers, every float32 step made float64


def widen(module, name):
    """Recompiles module.name with float64 wherever it says float32."""
    source = textwrap.dedent(inspect.getsource(getattr(module, name)))
    wide = source.replace("torch.float32", "torch.float64").replace("dtype=torch.float)", "dtype=torch.float64)")
    wide = wide.replace(".float()", ".double()")
    assert wide != source, name
    exec(compile(wide, f"{name} in float64", "exec"), module.__dict__)
    return module.__dict__[name]


def float32_angles(self, x, position_ids):
    """forward of a rotary embedding; angles are made before the forward pass."""
    angles = self.angles[position_ids]
    twice = torch.cat((angles, angles), dim=-1)
    return twice.cos(), twice.sin()


for family, code in (("Llama", modeling_llama), ("Mistral", modeling_mistral), ("Qwen2", modeling_qwen2)):
    for name in (f"{family}RMSNorm", "eager_attention_forward"):
        widen(code, name)
    getattr(code, f"{family}RotaryEmbedding").forward = float32_angles


class NoFloat32(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert not any(isinstance(t, torch.Tensor) and t.dtype == torch.float32 for t in tree_leaves(out)), func
        return out


def base_frequencies(rope, dims):
    return [rope["rope_theta"] ** (-2 * i / dims) for i in range(dims // 2)]


def own_frequencies(config):
    """Radians per position, in plain Python from the formulae."""
    dims = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    base = base_frequencies(rope, dims)
    if rope["rope_type"] == "linear":
        return [f / rope["factor"] for f in base]
    if rope["rope_type"] == "llama3":
        return [f / d for f, d in zip(base, llama3_divisors(rope, base))]
    assert rope["rope_type"] == "default"
    return base


def llama3_divisors(rope, base):
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    divisors = []
    for f in base:
        wavelength = 2 * math.pi / f
        smooth = min(max((old / wavelength - low) / (high - low), 0), 1)
        divisors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    assert divisors[0] == 1 and divisors[-1] == rope["factor"] and any(1 < d < rope["factor"] for d in divisors)
    return divisors


# ---------------------------------------------------------------- sites of one prompt


def hook_points(model):
    """Where transformers itself holds a tensor: {site: (module, "in" or "out")}, and norms {prefix: module}."""
    points, norms = {"logits": (model.get_output_embeddings(), "out")}, {}

    def add_norm(prefix, module):
        norms[prefix] = module
        points[prefix + ".hook_in"], points[prefix + ".hook_out"] = (module, "in"), (module, "out")

    if isinstance(model, GPT2LMHeadModel):
        body, layers, final = model.transformer, model.transformer.h, model.transformer.ln_f
        points["hook_embed"], points["hook_pos_embed"] = (body.wte, "out"), (body.wpe, "out")
    else:
        body, layers, final = model.model, model.model.layers, model.model.norm
        points["hook_embed"], points["rotary"] = (body.embed_tokens, "out"), (body.rotary_emb, "out")
    for number, block in enumerate(layers):
        b = f"blocks.{number}."
        points |= {b + "hook_resid_pre": (block, "in"), b + "hook_resid_post": (block, "out"),
                   b + "hook_mlp_out": (block.mlp, "out")}
        if isinstance(model, GPT2LMHeadModel):
            add_norm(b + "ln1", block.ln_1)
            add_norm(b + "ln2", block.ln_2)
            points |= {b + "qkv": (block.attn.c_attn, "out"), b + "attn.hook_z": (block.attn.c_proj, "in"),
                       b + "hook_attn_out": (block.attn, "out"), b + "hook_resid_mid": (block.ln_2, "in"),
                       b + "mlp.hook_pre": (block.mlp.c_fc, "out"), b + "mlp.hook_post": (block.mlp.c_proj, "in")}
        else:
            add_norm(b + "ln1", block.input_layernorm)
            add_norm(b + "ln2", block.post_attention_layernorm)
            attn, mlp = block.self_attn, block.mlp
            points |= {b + "attn.hook_q": (attn.q_proj, "out"), b + "attn.hook_k": (attn.k_proj, "out"),
                       b + "attn.hook_v": (attn.v_proj, "out"), b + "attn.hook_z": (attn.o_proj, "in"),
                       b + "hook_attn_out": (attn, "out"), b + "hook_resid_mid": (block.post_attention_layernorm, "in"),
                       b + "mlp.hook_pre": (mlp.gate_proj, "out"), b + "mlp.hook_pre_linear": (mlp.up_proj, "out"),
                       b + "mlp.hook_post": (mlp.down_proj, "in")}
    add_norm("ln_final", final)
    return points, norms


def captured(model, tokens):
    """Runs the model: {site: array without the batch axis}, attention patterns per layer [H, T, T]."""
    points, norms = hook_points(model)
    seen, handles = {}, []
    if "rotary" in points:
        rotary = points["rotary"][0]
        frequencies = rotary.original_inv_freq.float()
        exact = torch.tensor(own_frequencies(model.config), dtype=torch.float64)
        assert ((frequencies / exact - 1).abs() < 4e-7).all()  # a few roundings in float32
        rotary.angles = (torch.arange(len(tokens)).float()[:, None] * frequencies).double()

    def keep(name, value):
        assert name not in seen
        first = value if name == "rotary" else value[0] if isinstance(value, tuple) else value
        seen[name] = tuple(t[0] for t in first) if name == "rotary" else first.squeeze(0)

    for name, (module, side) in points.items():
        if side == "in":
            def before(_, args, kwargs, name=name):
                keep(name, args[0] if args else kwargs["hidden_states"])
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(lambda _, __, out, name=name: keep(name, out)))
    with torch.no_grad(), NoFloat32():
        result = model(torch.tensor([tokens]), output_attentions=True, use_cache=False)
    for handle in handles:
        handle.remove()
    seen["logits"] = seen["logits"].reshape(len(tokens), -1)
    return seen, norms, [a[0] for a in result.attentions]


def close(a, b, what):
    error = (a - b).abs().max().item()
    assert a.shape == b.shape and error <= EXACT * max(1.0, b.abs().max().item()), (what, error)


def sites_of(model, tokens):
    """{site: float64 tensor [T, ...] or [H, T, T]}: captured where transformers has it, else computed and compared."""
    config, T = model.config, len(tokens)
    seen, norms, patterns = captured(model, tokens)
    H, G = config.num_attention_heads, getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dh = getattr(config, "head_dim", None) or config.hidden_size // H
    window = getattr(config, "sliding_window", None) or T
    position = torch.arange(T)
    visible = (position[None, :] <= position[:, None]) & (position[None, :] > position[:, None] - window)
    sites = {name: value for name, value in seen.items()
             if name != "rotary" and not name.endswith((".qkv", "ln1.hook_in", "ln2.hook_in", "ln_final.hook_in"))}
    for prefix, norm in norms.items():
        x, layer_norm = seen[prefix + ".hook_in"], isinstance(norm, torch.nn.LayerNorm)
        centred = x - x.mean(-1, keepdim=True) if layer_norm else x
        scale = (centred.pow(2).mean(-1, keepdim=True) + (norm.eps if layer_norm else norm.variance_epsilon)).sqrt()
        sites[prefix + ".hook_scale"], sites[prefix + ".hook_normalized"] = scale, centred / scale
        close(centred / scale * norm.weight + (norm.bias if layer_norm else 0), seen[prefix + ".hook_out"], prefix)
    if "rotary" in seen:
        cos, sin = seen["rotary"]
        angles = model.model.rotary_emb.angles
        close(cos, angles.cos().repeat(1, 2), "cos")
        close(sin, angles.sin().repeat(1, 2), "sin")
    for number in range(config.num_hidden_layers):
        b = f"blocks.{number}."
        if "rotary" in seen:
            q, k, v = (sites[b + f"attn.hook_{x}"].reshape(T, n, dh) for x, n in (("q", H), ("k", G), ("v", G)))
            rotate = sys.modules[type(model).__module__].apply_rotary_pos_emb
            rot_q, rot_k = rotate(q.transpose(0, 1), k.transpose(0, 1), cos, sin, unsqueeze_dim=0)
            rot_q, rot_k = rot_q.transpose(0, 1), rot_k.transpose(0, 1)
            turned = torch.view_as_complex(torch.stack((k[..., :dh // 2], k[..., dh // 2:]), -1)) * torch.polar(
                torch.ones_like(angles), angles)[:, None, :]
            close(rot_k, torch.cat((turned.real, turned.imag), -1), "rotary")
            sites[b + "attn.hook_rot_q"], sites[b + "attn.hook_rot_k"] = rot_q, rot_k
        else:
            q, k, v = seen[b + "qkv"].reshape(T, 3, H, dh).unbind(1)
            rot_q, rot_k = q, k
        z = sites[b + "attn.hook_z"].reshape(T, H, dh)
        sites |= {b + "attn.hook_q": q, b + "attn.hook_k": k, b + "attn.hook_v": v, b + "attn.hook_z": z}
        group = torch.arange(H) // (H // G)
        scores = torch.einsum("qhd,khd->hqk", rot_q, rot_k[:, group]) * dh ** -0.5
        scores = scores.masked_fill(~visible, -math.inf)
        pattern = scores.softmax(-1)
        close(pattern, patterns[number], "pattern")
        assert not patterns[number][:, ~visible].any()
        close(torch.einsum("hqk,khd->qhd", pattern, v[:, group]), z, "z")
        if isinstance(model, GPT2LMHeadModel):
            projection = model.transformer.h[number].attn.c_proj
            w_o = projection.weight
        else:
            projection = model.model.layers[number].self_attn.o_proj
            w_o = projection.weight.T
        result = torch.einsum("qhd,hdo->qho", z, w_o.reshape(H, dh, -1))
        bias = projection.bias if projection.bias is not None else 0
        close(result.sum(1) + bias, sites[b + "hook_attn_out"], "result")
        close(sites[b + "hook_resid_pre"] + sites[b + "hook_attn_out"], sites[b + "hook_resid_mid"], "resid_mid")
        close(sites[b + "hook_resid_mid"] + sites[b + "hook_mlp_out"], sites[b + "hook_resid_post"], "resid_post")
        sites |= {b + "attn.hook_attn_scores": scores, b + "attn.hook_pattern": pattern, b + "attn.hook_result": result}
    return sites


def lens_of(model, sites, rows, fixed):
    """The lens at every depth: the model's own final norm recomputed on the state, then the unembedding."""
    n = model.config.num_hidden_layers
    norm = model.transformer.ln_f if isinstance(model, GPT2LMHeadModel) else model.model.norm
    states = [sites[f"blocks.{l}.hook_resid_pre"] for l in range(n)] + [sites[f"blocks.{n - 1}.hook_resid_post"]]
    with torch.no_grad(), NoFloat32():
        logits = model.get_output_embeddings()(norm(torch.stack(states, 1)[rows]))
    logprob = logits.log_softmax(-1)
    close(logits[:, -1], sites["logits"][rows], "lens")
    answer = torch.stack((logits[:, -1].argmax(-1), torch.full((len(rows),), fixed)), 1)
    index = answer[:, :, None, None].expand(-1, -1, n + 1, 1)
    wide = logits[:, None].expand(-1, 2, -1, -1)
    own = wide.gather(-1, index)
    top = logits.topk(6, -1)
    # No near ties: fp32 must come to the same ranks and the same top 5.
    assert ((wide - own).abs() + 1e9 * (torch.arange(wide.shape[-1]) == index)).min() > 4e-5
    assert (top.values[..., :-1] - top.values[..., 1:]).min() > 4e-5
    p = logprob.exp()
    return {"answer": answer.int(), "rank": (1 + (wide > own).sum(-1)).int(),
            "logprob": logprob[:, None].expand(-1, 2, -1, -1).gather(-1, index)[..., 0],
            "entropy": -(p * logprob).sum(-1),
            "kl_final": (p[:, -1:] * (logprob[:, -1:] - logprob)).sum(-1), "top_token": top.indices[..., :5].int()}

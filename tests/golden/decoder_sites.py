"""Every site of a transformers decoder in fp64, for any family of FAMILIES: a table of module names by role.

As fp64_sites.py: the truth is the transformers model in double precision, every module of which is recompiled with
float64 where it says float32; a dispatch mode proves that none is left. What is part of the model stays float32: rotary
angles (position times frequency) and frequencies. Sites are what transformers' own modules take and return wherever there
is such a module; queries and keys after rotary, scores, patterns, results by head and by expert, and the scales of norms
are computed here from the formulae and compared with what transformers makes of them.

Made with torch 2.15.0, transformers 5.24.0.
"""
import importlib
import inspect
import math
import re
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

EXACT = 1e-11  # two fp64 routes to the same number

# ---------------------------------------------------------------- families: modules by role

LLAMA = dict(
    layers="model.layers", embed="model.embed_tokens", final="model.norm", attn="self_attn", ln1="input_layernorm",
    ln2="post_attention_layernorm", q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj",
    o="self_attn.o_proj", q_norm="self_attn.q_norm", k_norm="self_attn.k_norm", gate="mlp.gate_proj", up="mlp.up_proj",
    down="mlp.down_proj", mlp="mlp", router="mlp.gate", experts="mlp.experts", shared="mlp.shared_expert",
    shared_share="mlp.shared_expert_gate")
GPT2 = dict(
    layers="transformer.h", embed="transformer.wte", positions="transformer.wpe", final="transformer.ln_f", attn="attn",
    ln1="ln_1", ln2="ln_2", qkv="attn.c_attn", o="attn.c_proj", up="mlp.c_fc", down="mlp.c_proj", mlp="mlp")
BLOOM = dict(
    layers="transformer.h", embed="transformer.word_embeddings", embed_norm="transformer.word_embeddings_layernorm",
    final="transformer.ln_f", attn="self_attention", ln1="input_layernorm|ln_attn",
    ln2="post_attention_layernorm|ln_mlp", qkv="self_attention.query_key_value", o="self_attention.dense",
    up="mlp.dense_h_to_4h", down="mlp.dense_4h_to_h", mlp="mlp", grouped=True)
SANDWICH = LLAMA | dict(ln1_post="post_attention_layernorm", ln2="pre_feedforward_layernorm",
                        ln2_post="post_feedforward_layernorm")


def slides(config, layer):
    return config.layer_types[layer] == "sliding_attention"


# Besides roles: whether a fused tensor of q, k, v is grouped by head; whether neighbours rotate; parallel(config);
# rotates(config, layer); scale(config, layer) of scores; window(config, layer).
FAMILIES = {
    "llama": LLAMA, "mistral": LLAMA, "mixtral": LLAMA, "qwen2": LLAMA, "qwen2_moe": LLAMA, "qwen3": LLAMA,
    "qwen3_moe": LLAMA, "gemma": LLAMA, "olmo": LLAMA, "granite": LLAMA,
    "gemma2": SANDWICH, "gemma3_text": SANDWICH,
    "olmo2": SANDWICH | dict(ln1=None, ln2=None),
    "smollm3": LLAMA | dict(rotates=lambda c, l: c.no_rope_layers[l]),
    "stablelm": LLAMA | dict(parallel=lambda c: c.use_parallel_residual, q_norm="self_attn.q_layernorm",
                             k_norm="self_attn.k_layernorm"),
    "cohere": LLAMA | dict(ln2=None, pairs=True, parallel=lambda c: True),
    "cohere2": LLAMA | dict(ln2=None, pairs=True, parallel=lambda c: True, rotates=slides),
    "phi": LLAMA | dict(final="model.final_layernorm", ln2=None, q_norm="self_attn.q_layernorm",
                        k_norm="self_attn.k_layernorm", o="self_attn.dense", gate=None, up="mlp.fc1", down="mlp.fc2",
                        parallel=lambda c: True),
    "phi3": LLAMA | dict(qkv="self_attn.qkv_proj", gate_up="mlp.gate_up_proj"),
    "starcoder2": LLAMA | dict(gate=None, up="mlp.c_fc", down="mlp.c_proj"),
    "gpt2": GPT2 | dict(scale=lambda c, l: 1 / (l + 1 if c.scale_attn_by_inverse_layer_idx else 1)),
    "gpt_bigcode": GPT2 | dict(grouped=True),
    "gpt_neo": GPT2 | dict(attn="attn.attention", q="attn.attention.q_proj", k="attn.attention.k_proj",
                           v="attn.attention.v_proj", o="attn.attention.out_proj",
                           scale=lambda c, l: math.sqrt(c.hidden_size // c.num_heads),
                           window=lambda c, l: c.window_size if c.attention_layers[l] == "local" else None),
    "gptj": GPT2 | dict(positions=None, ln2=None, q="attn.q_proj", k="attn.k_proj", v="attn.v_proj", o="attn.out_proj",
                        up="mlp.fc_in", down="mlp.fc_out", pairs=True, parallel=lambda c: True),
    "gpt_neox": BLOOM | dict(layers="gpt_neox.layers", embed="gpt_neox.embed_in", embed_norm=None, attn="attention",
                             final="gpt_neox.final_layer_norm", qkv="attention.query_key_value", o="attention.dense",
                             parallel=lambda c: c.use_parallel_residual),
    "opt": dict(layers="model.decoder.layers", embed="model.decoder.project_in|model.decoder.embed_tokens",
                positions="model.decoder.embed_positions", final="model.decoder.final_layer_norm", attn="self_attn",
                head="model.decoder.project_out", ln1="self_attn_layer_norm", ln2="final_layer_norm",
                q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj", o="self_attn.out_proj", up="fc1",
                down="fc2", post_norm=lambda c: not c.do_layer_norm_before),
    "bloom": BLOOM,
    "falcon": BLOOM | dict(embed_norm=None, parallel=lambda c: c.parallel_attn or c.new_decoder_architecture),
    "mpt": GPT2 | dict(layers="transformer.blocks", positions=None, final="transformer.norm_f", ln1="norm_1",
                       ln2="norm_2", qkv="attn.Wqkv", o="attn.out_proj", up="ffn.up_proj", down="ffn.down_proj",
                       mlp="ffn"),
}
LAYER_ROLES = ("ln1", "ln2", "ln1_post", "ln2_post", "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down", "mlp",
               "router", "experts", "shared", "shared_share")


def find(root, path):
    """The module at the first of the |-separated paths that is there, or None."""
    for one in (path or "").split("|"):
        module = root
        for name in one.split(".") if one else ():
            module = getattr(module, name, None)
        if module is not None and module is not root:
            return module
    return None


def roles_of(model):
    family = FAMILIES[model.config.model_type]
    return family, find(model, family["layers"])


# ---------------------------------------------------------------- transformers, every float32 step made float64


def float32_angles(position, frequency):
    """What the model was trained with: one product of float32 numbers."""
    with _disable_current_modes():
        return (position.float() * frequency.float()).double()


def widened(name):
    """The code of a family with float64 wherever it says float32, but for angles."""
    code = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    source = inspect.getsource(code)
    source = re.sub(r"position_ids\[\.\.\., None\]\.float\(\) \* ((self\.)?inv_freq)\.to\(.*\)",
                    r"float32_angles(position_ids[..., None], \1)", source)
    source = source.replace("torch.arange(num_pos, dtype=torch.int64).float()[:, None] * inv_freq",
                            "float32_angles(torch.arange(num_pos)[:, None], inv_freq)")
    source = source.replace("torch.float32", "torch.float64").replace(".float()", ".double()")
    source = "\n".join(line if "arange" in line else re.sub(r"dtype=torch\.float\b", "dtype=torch.float64", line)
                       for line in source.split("\n"))
    code.__dict__["float32_angles"] = float32_angles
    exec(compile(source, f"{code.__file__} in float64", "exec"), code.__dict__)
    return code


class NoFloat32(TorchDispatchMode):
    """But for the frequencies of rotary embeddings."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if any(isinstance(t, torch.Tensor) and t.dtype == torch.float32 for t in tree_leaves(out)):
            frame, files = sys._getframe(), set()
            while frame:
                files.add(frame.f_code.co_filename.rsplit("/", 1)[-1])
                frame = frame.f_back
            assert "modeling_rope_utils.py" in files, func
        return out


def opened(folder, model_type):
    """The folder as transformers reads it, in fp64. Falcon with ALiBi: transformers' eager path adds it twice."""
    code = widened({"gemma3_text": "gemma3"}.get(model_type, model_type))
    name = next(n for n in code.__dict__ if n.endswith(("ForCausalLM", "LMHeadModel")) and
                getattr(code.__dict__[n], "config_class", None) is not None and
                code.__dict__[n].config_class.model_type == model_type)
    config = code.__dict__[name].config_class.from_pretrained(folder)
    attention = "sdpa" if getattr(config, "alibi", False) else "eager"
    model = code.__dict__[name].from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    model = model.double().eval()
    for module in model.modules():
        if hasattr(module, "embed_positions") and isinstance(module.embed_positions, torch.Tensor):  # GPT-J's angles
            module.embed_positions = code.create_sinusoidal_positions(module.max_positions, module.pos_embd_dim)
    return model


# ---------------------------------------------------------------- what transformers' modules take and return


def captured(model, tokens):
    """Runs the model: {(layer or None, role): (input, output)} without the batch axis, angles and patterns by layer."""
    family, layers = roles_of(model)
    seen, angles, handles = {}, {}, []

    def first(value):
        value = value[0] if isinstance(value, (tuple, list)) else value
        return value.reshape(len(tokens), -1) if isinstance(value, torch.Tensor) and value.dim() > 1 else value

    def keep(key, module):
        def after(_, args, kwargs, out):
            assert key not in seen
            taken = args[0] if args else kwargs.get("hidden_states", kwargs.get("input"))
            seen[key] = tuple(None if x is None else first(x).clone() for x in (taken, out))  # Falcon adds in place
        handles.append(module.register_forward_hook(after, with_kwargs=True))

    def angle(layer):
        def before(_, args, kwargs):
            angles[layer] = kwargs.get("position_embeddings")
        return before

    for role in ("embed", "positions", "embed_norm", "final", "head"):
        if find(model, family.get(role)) is not None:
            keep((None, role), find(model, family[role]))
    for number, block in enumerate(layers):
        keep((number, "block"), block)
        find(block, family["attn"]).register_forward_pre_hook(angle(number), with_kwargs=True)
        for role in LAYER_ROLES:
            if find(block, family.get(role)) is not None:
                keep((number, role), find(block, family[role]))
    with torch.no_grad(), NoFloat32():
        sdpa = model.config._attn_implementation == "sdpa"
        result = model(torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens), dtype=torch.long), output_attentions=not sdpa, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen, result.logits[0], angles, [a[0] for a in result.attentions or ()]


def close(a, b, what):
    error = (a - b).abs().max().item()
    assert a.shape == b.shape and error <= EXACT * max(1.0, b.abs().max().item()), (what, error)


def normalised(x, norm):
    """scale, x / scale and the norm's output; of the last axis, or of as much of the last two as the gain has."""
    layer_norm = "LayerNorm" in type(norm).__name__
    gain, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    eps = next(getattr(norm, name) for name in ("eps", "variance_epsilon") if hasattr(norm, name)) if hasattr(
        norm, "eps") or hasattr(norm, "variance_epsilon") else 1e-5  # OLMo's has it in its code
    centred = x - x.mean(-1, keepdim=True) if layer_norm else x
    scale = (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    out = centred / scale
    if gain is not None:
        out = out * (gain + 1 if type(norm).__name__.startswith("Gemma") else gain) + (0 if bias is None else bias)
    return scale, centred / scale, out


def norm_sites(sites, prefix, norm, x, out):
    scale, ready, own = normalised(x, norm)
    close(own, out, prefix)
    sites |= {prefix + ".hook_scale": scale, prefix + ".hook_normalized": ready}


# ---------------------------------------------------------------- attention


def heads_of(config):
    """Heads, key/value heads, dimensions of a head."""
    H, kind = config.num_attention_heads, config.model_type
    dh = getattr(config, "head_dim", None) or config.hidden_size // H
    G = getattr(config, "num_key_value_heads", None) or H
    if kind == "falcon":
        G = config.num_kv_heads if config.new_decoder_architecture else 1 if config.multi_query else H
    if kind == "gpt_bigcode":
        G = 1 if config.multi_query else H
    return H, G, dh


def projections(model, seen, number):
    """q, k, v by head, as they leave their matrices, clipped where the model clips."""
    family, _ = roles_of(model)
    H, G, dh = heads_of(model.config)
    T = len(seen[number, "o"][1])
    if (number, "qkv") in seen:
        fused = seen[number, "qkv"][1]
        if family.get("grouped"):
            fused = fused.reshape(T, G, H // G + 2, dh)
            q, k, v = fused[:, :, :-2], fused[:, :, -2], fused[:, :, -1]
        else:
            q, k, v = fused.split((H * dh, G * dh, G * dh), -1)
    else:
        q, k, v = (seen[number, x][1] for x in "qkv")
    clip = getattr(model.config, "clip_qkv", None) or getattr(getattr(model.config, "attn_config", None), "clip_qkv", None)
    parts = [x.reshape(T, n, dh) for x, n in ((q, H), (k, G), (v, G))]
    return [x.clamp(-clip, clip) for x in parts] if clip else parts


def head_norm(x, norm):
    if norm is None:
        return x
    if hasattr(norm, "norms"):  # StableLM: a module of each head
        return torch.stack([normalised(x[:, head], one)[2] for head, one in enumerate(norm.norms)], 1)
    whole = norm.weight.numel() == x.shape[1] * x.shape[2] and norm.weight.dim() == 1 and x.shape[1] > 1
    return normalised(x.flatten(1), norm)[2].reshape(x.shape) if whole else normalised(x, norm)[2]


def rotated(x, angles, pairs):
    """As complex numbers; angles is what transformers hands to attention: cosines and sines."""
    cos, sin = (a.squeeze(0) for a in angles)
    n = cos.shape[-1] // 2
    if pairs:
        cos, sin = cos[:, ::2], sin[:, ::2]
    else:
        cos, sin = cos[:, :n], sin[:, :n]
    turned, rest = x[..., :2 * n], x[..., 2 * n:]
    a, b = (turned[..., ::2], turned[..., 1::2]) if pairs else (turned[..., :n], turned[..., n:])
    z = torch.complex(a, b) * torch.complex(cos, sin)[:, None]
    turned = torch.stack((z.real, z.imag), -1).flatten(-2) if pairs else torch.cat((z.real, z.imag), -1)
    return torch.cat((turned, rest), -1)


def alibi_of(config, T):
    """[H, query, key], added to the scaled scores: Press et al. 2022."""
    H, kind = config.num_attention_heads, config.model_type
    if kind not in ("bloom", "mpt") and not getattr(config, "alibi", False):
        return 0
    most = config.attn_config.alibi_bias_max if kind == "mpt" else 8
    power = 2 ** (math.ceil(math.log2(H)) if kind == "mpt" else math.floor(math.log2(H)))
    exponents = [most * (i + 1) / power for i in range(power)]
    if kind == "mpt":
        exponents = exponents if power == H else (exponents[1::2] + exponents[::2])[:H]
    else:
        exponents += [most * (i + 0.5) / power for i in range(H - power)]
    slopes = torch.tensor([2.0 ** -e for e in exponents], dtype=torch.float64)  # powers of two for up to 6 heads
    key = torch.arange(T)
    if kind == "falcon":  # in bfloat16, and scaled as the scores are
        bias = (slopes.bfloat16()[:, None] * key.bfloat16()).double() * heads_of(config)[2] ** -0.5
        return bias[:, None, :] - bias[:, :, None]
    return slopes[:, None, None] * (key[None, :] - key[:, None])


def attention_sites(sites, model, seen, number, angles, pattern_there):
    config, (family, layers) = model.config, roles_of(model)
    b, block, (H, G, dh) = f"blocks.{number}.", layers[number], heads_of(config)
    q, k, v = projections(model, seen, number)
    T = len(q)
    sites |= {b + "attn.hook_q": q, b + "attn.hook_k": k, b + "attn.hook_v": v}
    q, k = head_norm(q, find(block, family.get("q_norm"))), head_norm(k, find(block, family.get("k_norm")))
    if angles.get(number) is not None and not getattr(config, "alibi", False):  # Falcon hands them over all the same
        sincos = angles[number]
        if config.model_type == "gptj":
            sincos = [x.repeat_interleave(2, -1) for x in sincos[::-1]]
        if family.get("rotates", lambda c, l: True)(config, number):
            q, k = (rotated(x, sincos, family.get("pairs")) for x in (q, k))
        sites |= {b + "attn.hook_rot_q": q, b + "attn.hook_rot_k": k}
    scale = getattr(find(block, family["attn"]), "scaling", None) if not family.get("scale") else None
    scale = family["scale"](config, number) * dh ** -0.5 if family.get("scale") else scale or dh ** -0.5
    group = torch.arange(H) // (H // G)
    scores = torch.einsum("qhd,khd->hqk", q, k[:, group]) * scale
    if getattr(config, "attn_logit_softcapping", None):
        scores = (scores / config.attn_logit_softcapping).tanh() * config.attn_logit_softcapping
    scores = scores + alibi_of(config, T)
    position = torch.arange(T)
    visible = position[None, :] <= position[:, None]
    if window := window_of(config, family, number):
        visible &= position[None, :] > position[:, None] - window
    scores = scores.masked_fill(~visible, -math.inf)
    pattern, z = scores.softmax(-1), seen[number, "o"][0].reshape(T, H, dh)
    if pattern_there:
        close(pattern, pattern_there[number], "pattern")
    close(torch.einsum("hqk,khd->qhd", pattern, v[:, group]), z, "z")
    projection = find(block, family["o"])
    w_o = projection.weight if type(projection).__name__ == "Conv1D" else projection.weight.T
    result = torch.einsum("qhd,hdo->qho", z, w_o.reshape(H, dh, -1))
    close(result.sum(1) + (0 if projection.bias is None else projection.bias), seen[number, "o"][1], "result")
    sites |= {b + "attn.hook_attn_scores": scores, b + "attn.hook_pattern": pattern, b + "attn.hook_z": z,
              b + "attn.hook_result": result}


def window_of(config, family, layer):
    if "window" in family:
        return family["window"](config, layer)
    types = getattr(config, "layer_types", None)
    size = getattr(config, "sliding_window", None)
    return size if size and (not types or types[layer] == "sliding_attention") else None


# ---------------------------------------------------------------- MLP, blocks, ends


def expert_sites(sites, model, block, seen, number):
    """Router, softmax over all experts, and each expert's share, which with the shared one's is the MLP's output."""
    b, family, config = f"blocks.{number}.", roles_of(model)[0], model.config
    x, logits = seen[number, "router"]
    weights = logits.softmax(-1)
    top = weights.topk(config.num_experts_per_tok, -1)
    chosen = torch.zeros_like(weights).scatter(-1, top.indices, top.values)
    if getattr(config, "norm_topk_prob", True):
        chosen = chosen / chosen.sum(-1, keepdim=True)
    experts, results = find(block, family["experts"]), []
    for e in range(weights.shape[-1]):
        gate, up = (x @ experts.gate_up_proj[e].T).chunk(2, -1)
        results.append((gate * gate.sigmoid() * up) @ experts.down_proj[e].T * chosen[:, e:e + 1])
    result = torch.stack(results, 1)
    total = result.sum(1)
    if (number, "shared") in seen:
        total = total + seen[number, "shared_share"][1].sigmoid() * seen[number, "shared"][1]
    close(total, seen[number, "mlp"][1], "experts")
    sites |= {b + "mlp.hook_router_logits": logits, b + "mlp.hook_expert_weights": weights,
              b + "mlp.hook_expert_result": result}


def mlp_sites(sites, seen, number):
    b = f"blocks.{number}.mlp."
    if (number, "gate_up") in seen:
        sites[b + "hook_pre"], sites[b + "hook_pre_linear"] = seen[number, "gate_up"][1].chunk(2, -1)
    elif (number, "gate") in seen:
        sites[b + "hook_pre"], sites[b + "hook_pre_linear"] = seen[number, "gate"][1], seen[number, "up"][1]
    else:
        sites[b + "hook_pre"] = seen[number, "up"][1]
    sites[b + "hook_post"] = seen[number, "down"][0]


def block_sites(sites, model, seen, number):
    config, (family, layers) = model.config, roles_of(model)
    b, block = f"blocks.{number}.", layers[number]
    factor = getattr(config, "residual_multiplier", 1)
    pre, post = seen[number, "block"]
    attn, mlp = seen[number, "o"][1], seen[number, "mlp" if (number, "router") in seen else "down"][1]
    out = {"attn": attn * factor, "mlp": mlp * factor}
    for name, raw, norm in (("attn", attn, "ln1_post"), ("mlp", mlp, "ln2_post")):
        if (number, norm) in seen:
            out[name] = seen[number, norm][1]
            norm_sites(sites, b + norm, find(block, family[norm]), *seen[number, norm])
            close(raw, seen[number, norm][0], norm)
            sites[b + name + ".hook_out"] = raw
    parallel = family.get("parallel", lambda c: False)(config)
    post_norm = family.get("post_norm", lambda c: False)(config)
    mid = pre + out["attn"]
    sites |= {b + "hook_resid_pre": pre, b + "hook_attn_out": out["attn"], b + "hook_mlp_out": out["mlp"]}
    for norm, x in (("ln1", mid if post_norm else pre), ("ln2", pre if parallel else mid)):
        if (number, norm) in seen and not (post_norm and norm == "ln2"):
            close(x, seen[number, norm][0], norm + " reads")
            x = seen[number, norm][0]
            sites[b + norm + ".hook_out"] = seen[number, norm][1]
            norm_sites(sites, b + norm, find(block, family[norm]), *seen[number, norm])
            if norm == "ln2" and not parallel:
                mid = x
    if not parallel:
        sites[b + "hook_resid_mid"] = mid
    if post_norm:
        before = sites[b + "ln1.hook_out"] + out["mlp"]
        close(before, seen[number, "ln2"][0], "resid_post")
        norm_sites(sites, b + "ln2", find(block, family["ln2"]), *seen[number, "ln2"])
        sites |= {b + "hook_resid_post": before, b + "hook_normalized_resid_post": post}
    else:
        close(mid + out["mlp"], post, "resid_post")
        sites[b + "hook_resid_post"] = post


def sites_of(model, tokens):
    """{site: float64 tensor [T, ...] or [H, T, T]}."""
    family, layers = roles_of(model)
    seen, logits, angles, patterns = captured(model, tokens)
    sites = {"logits": logits}
    if (None, "positions") in seen:
        sites["hook_pos_embed"] = seen[None, "positions"][1].reshape(len(tokens), -1)
        sites["hook_embed"] = seen[None, "embed"][1]
        close(sites["hook_embed"] + sites["hook_pos_embed"], seen[0, "block"][0], "embed")
    else:
        sites["hook_embed"] = seen[0, "block"][0]
        factor = getattr(model.config, "embedding_multiplier", 1)
        close(seen[None, "embed_norm" if (None, "embed_norm") in seen else "embed"][1] * factor, sites["hook_embed"],
              "embed")
    for number, block in enumerate(layers):
        block_sites(sites, model, seen, number)
        attention_sites(sites, model, seen, number, angles, patterns)
        if (number, "router") in seen:
            expert_sites(sites, model, block, seen, number)
        else:
            mlp_sites(sites, seen, number)
    if (None, "final") in seen:
        sites["ln_final.hook_out"] = seen[None, "final"][1]
        norm_sites(sites, "ln_final", find(model, family["final"]), *seen[None, "final"])
    return sites


def logits_of(model, states):
    """The model's own head on states of any depth."""
    family, config = roles_of(model)[0], model.config
    for role in ("final", "head"):
        module = find(model, family.get(role))
        states = module(states) if module is not None else states
    logits = model.get_output_embeddings()(states)
    logits = logits * (getattr(config, "logit_scale", None) or 1) / getattr(config, "logits_scaling", 1)
    cap = getattr(config, "final_logit_softcapping", None)
    return (logits / cap).tanh() * cap if cap else logits


def lens_of(model, sites, rows, fixed):
    """The lens at every depth: the model's own final norm recomputed on the state, then the unembedding."""
    n = len(roles_of(model)[1])
    last = f"blocks.{n - 1}.hook_normalized_resid_post"
    states = [sites[f"blocks.{l}.hook_resid_pre"] for l in range(n)]
    states.append(sites[last] if last in sites else sites[f"blocks.{n - 1}.hook_resid_post"])
    with torch.no_grad(), NoFloat32():
        logits = logits_of(model, torch.stack(states, 1)[rows])
    logprob = logits.log_softmax(-1)
    close(logits[:, -1], sites["logits"][rows], "lens")
    answer = torch.stack((logits[:, -1].argmax(-1), torch.full((len(rows),), fixed)), 1)
    index = answer[:, :, None, None].expand(-1, -1, n + 1, 1)
    wide_logits = logits[:, None].expand(-1, 2, -1, -1)
    own = wide_logits.gather(-1, index)
    top = logits.topk(6, -1)
    # No near ties: fp32 must come to the same ranks and the same top 5.
    near = ((wide_logits - own).abs() + 1e9 * (torch.arange(wide_logits.shape[-1]) == index)).min()
    assert min(near, (top.values[..., :-1] - top.values[..., 1:]).min()) > 4e-5, "near ties: take another seed"
    p = logprob.exp()
    return {"answer": answer.int(), "rank": (1 + (wide_logits > own).sum(-1)).int(),
            "logprob": logprob[:, None].expand(-1, 2, -1, -1).gather(-1, index)[..., 0],
            "entropy": -(p * logprob).sum(-1),
            "kl_final": (p[:, -1:] * (logprob[:, -1:] - logprob)).sum(-1), "top_token": top.indices[..., :5].int()}

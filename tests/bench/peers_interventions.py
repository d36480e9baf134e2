#!/usr/bin/env python3
"""The work of tests/bench/interventions.c in PyTorch, batched, the whole prompt run again for every variant.

usage: peers_interventions.py knockout|heads|causal FOLDER FACTS.jsonl      prints seconds a fact, without load
"""
import contextlib
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_grad_enabled(False)
task, folder, facts = sys.argv[1:4]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
layers = model.model.layers
n_layers, n_heads = len(layers), model.config.num_attention_heads
SAMPLES, NOISE, CELLS = 10, 0.09, 8  # causal: noise draws, their deviation, grid cells in a batch of CELLS * SAMPLES rows


def encode(fact):
    text = tokenizer(fact["prompt"], return_offsets_mapping=True)
    begin = fact["prompt"].index(fact["subject"])
    end = begin + len(fact["subject"])
    subject = [i for i, (b, e) in enumerate(text["offset_mapping"]) if b < end and e > begin]
    return torch.tensor([text.input_ids]), subject, tokenizer(" " + fact["answer"]).input_ids[0]


def probability(embeddings, answer):
    last = model.model(inputs_embeds=embeddings).last_hidden_state[:, -1]
    return (last @ model.lm_head.weight.T).softmax(-1)[:, answer]


@contextlib.contextmanager
def hooks(register):
    handles = [h for h in (register(l) for l in range(n_layers)) if h is not None]
    try:
        yield
    finally:
        for h in handles:
            h.remove()


def knockout(embeddings, subject, answer):
    n = embeddings.shape[1]
    causal = torch.full((n, n), float("-inf")).triu(1)
    rest = [i for i in range(n - 1) if i not in subject]
    for keys in (subject, rest, [n - 1]):
        masks = [causal.repeat(n_layers, 1, 1, 1) for _ in range(n_layers)]
        for centre in range(n_layers):
            for l in range(max(0, centre - 5), min(n_layers, centre + 5)):
                masks[l][centre, 0, n - 1, keys] = float("-inf")

        def register(l):
            def masked(module, args, kwargs):
                return args, {**kwargs, "attention_mask": masks[l]}
            return layers[l].self_attn.register_forward_pre_hook(masked, with_kwargs=True)

        with hooks(register):
            probability(embeddings.repeat(n_layers, 1, 1), answer)


def heads(embeddings, subject, answer, batch=54):
    width = layers[0].self_attn.head_dim
    every = [(l, h) for l in range(n_layers) for h in range(n_heads)]
    for begin in range(0, len(every), batch):
        chosen = every[begin:begin + batch]

        def register(l):
            rows = [(row, h) for row, (layer, h) in enumerate(chosen) if layer == l]

            def zeroed(module, args):
                z = args[0].clone()
                for row, h in rows:
                    z[row, -1, h * width:(h + 1) * width] = 0
                return (z,)
            return layers[l].self_attn.o_proj.register_forward_pre_hook(zeroed) if rows else None

        with hooks(register):
            probability(embeddings.repeat(len(chosen), 1, 1), answer)


def causal(embeddings, subject, answer):
    n, d = embeddings.shape[1:]
    noise = torch.zeros(SAMPLES, n, d)
    noise[:, subject] = torch.randn(SAMPLES, len(subject), d, generator=torch.Generator().manual_seed(1)) * NOISE
    clean = {}

    def keep(l):
        def hook(module, args, out):
            clean[l] = (out[0] if isinstance(out, tuple) else out).clone()
        return layers[l].register_forward_hook(hook)

    with hooks(keep):
        probability(embeddings, answer)
    grid = [(l, t) for l in range(n_layers) for t in range(n)]
    for begin in range(0, len(grid), CELLS):
        chosen = grid[begin:begin + CELLS]

        def restore(l):
            cells = [(c, t) for c, (layer, t) in enumerate(chosen) if layer == l]

            def hook(module, args, out):
                states = out[0] if isinstance(out, tuple) else out
                for c, t in cells:
                    states[c * SAMPLES:(c + 1) * SAMPLES, t] = clean[l][0, t]
                return (states,) + tuple(out[1:]) if isinstance(out, tuple) else states
            return layers[l].register_forward_hook(hook) if cells else None

        with hooks(restore):
            probability((embeddings + noise).repeat(len(chosen), 1, 1), answer)


rows = [json.loads(line) for line in open(facts, encoding="utf-8")]
start = time.time()
for row in rows:
    ids, subject, answer = encode(row)
    {"knockout": knockout, "heads": heads, "causal": causal}[task](model.model.embed_tokens(ids), subject, answer)
print(round((time.time() - start) / len(rows), 4))

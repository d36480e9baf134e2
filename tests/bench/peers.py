#!/usr/bin/env python3
"""The work of `strata lens` and `strata trace` in PyTorch, for `make bench PEERS=PYTHON`.

usage: peers.py convert MODEL.gguf FOLDER          the same float32 weights as a Hugging Face folder, once
       peers.py TASK FOLDER FACTS.jsonl N          prints "prompts tokens seconds" (seconds without import and load)

forward       the model over batches sorted by length, padded, masked
last          rank, log-softmax and top 5 of the last position at every depth, batched
all           the same for every position
cold          one fact, every position and depth; to be timed from outside as a whole process
documented    as TransformerLens's documentation shows: run_with_cache one prompt at a time, accumulated_resid, unembed

Needs torch, transformers, gguf; `documented` also transformer_lens.
"""
import json
import pathlib
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_grad_enabled(False)


def convert(gguf, folder):
    gguf, folder = pathlib.Path(gguf), pathlib.Path(folder)
    if (folder / "config.json").exists():
        return
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A fresh model of the same weights: one that was loaded from GGUF refuses to be saved.
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)


def measures(logits, answers):
    """Rank, log-probabilities and top 5 of states [n, d_vocab]."""
    rank = (logits > logits.gather(1, answers[:, None])).sum(1) + 1
    return rank, logits.log_softmax(-1), logits.topk(5)


def batches(ids, size):
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for begin in range(0, len(order), size):
        chosen = order[begin:begin + size]
        width = max(len(ids[i]) for i in chosen)
        tokens = torch.zeros((len(chosen), width), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, i in enumerate(chosen):
            tokens[row, :len(ids[i])] = torch.tensor(ids[i])
            mask[row, :len(ids[i])] = 1
        yield chosen, tokens, mask


def lens(model, ids, answers, task):
    norm, unembed = model.model.norm, model.lm_head.weight
    for chosen, tokens, mask in batches(ids, 16 if task == "all" else 64):
        out = model.model(tokens, attention_mask=mask, output_hidden_states=task != "forward")
        if task == "forward":
            continue
        answer = torch.tensor([answers[i] for i in chosen])
        if task == "all":
            flat = answer[:, None].expand(mask.shape)[mask.bool()]
            for depth, h in enumerate(out.hidden_states):
                h = h[mask.bool()]
                h = h if depth + 1 == len(out.hidden_states) else norm(h)  # the last one is normed already
                measures(h @ unembed.T, flat)
        else:
            last = mask.sum(1) - 1
            h = torch.stack([s[torch.arange(len(chosen)), last] for s in out.hidden_states], 1)
            h = torch.cat([norm(h[:, :-1]), h[:, -1:]], 1)
            measures(h.reshape(-1, h.shape[-1]) @ unembed.T, answer.repeat_interleave(h.shape[1]))


def documented(folder, texts, answers):
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
    model.enable_compatibility_mode()
    begin = time.time()
    for text, answer in zip(texts, answers):
        _, cache = model.run_with_cache(text, prepend_bos=False)
        stack = cache.accumulated_resid(layer=-1, incl_mid=False, pos_slice=-1, apply_ln=True).squeeze(1)
        measures(model.unembed(stack.unsqueeze(1)).squeeze(1), torch.full((len(stack),), answer))
    return time.time() - begin


def main():
    task, folder = sys.argv[1:3]
    if task == "convert":
        return convert(folder, sys.argv[3])
    facts = [json.loads(line) for line in open(sys.argv[3], encoding="utf-8")][:int(sys.argv[4])]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [f["prompt"] for f in facts]
    ids = [tokenizer(t).input_ids for t in texts]
    answers = [tokenizer(" " + f["answer"]).input_ids[0] for f in facts]
    if task == "documented":
        seconds = documented(folder, texts, answers)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        begin = time.time()
        lens(model, ids, answers, "all" if task == "cold" else task)
        seconds = time.time() - begin
    print(len(ids), sum(map(len, ids)), round(seconds, 3))


main()

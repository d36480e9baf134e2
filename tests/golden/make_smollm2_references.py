#!/usr/bin/env python3
"""Makes tests/golden/smollm2_lens.json: the logit lens of 20 facts on the demo model, in fp64 from transformers.

usage: make_smollm2_references.py HF_FOLDER [OUT.json]

HF_FOLDER holds SmolLM2-135M-Instruct.Q4_1.gguf dequantised exactly to float32: config.json, model.safetensors with q
and k back in rotary halves, tokenizer.json. Made with torch 2.15.0, transformers 5.23.0 (see fp64_sites.py).

Of each prompt, at its last token: ids; the token that follows with " answer"; at all 31 depths rank (1 = top), logprob,
and near = the other tokens whose logit is nearer to the answer's than NEAR times the largest logit; the final top 5.
"""
import json
import pathlib
import sys

import torch
import transformers

from fp64_sites import NoFloat32, captured

NEAR = 1e-5  # what design allows fp32 to be off, relative

FACTS = [
    ("The Eiffel Tower is located in the city of", "Paris"),
    ("The capital of Japan is", "Tokyo"),
    ("The capital of Italy is the city of", "Rome"),
    ("The official language of Brazil is", "Portuguese"),
    ("The currency of the United Kingdom is the", "pound"),
    ("The author of the play Hamlet is William", "Shakespeare"),
    ("The theory of relativity was developed by Albert", "Einstein"),
    ("The largest planet in the solar system is", "Jupiter"),
    ("The chemical symbol for gold is", "Au"),
    ("Mount Everest is the highest mountain in the", "world"),
    ("Beethoven was a famous composer of", "music"),
    ("The opposite of hot is", "cold"),
    ("A baby cat is called a", "kitten"),
    ("A dog is an animal, and a rose is a", "flower"),
    ("In winter the water of the lake turns into", "ice"),
    ("You cut bread with a", "knife"),
    ("At night the sky is", "dark"),
    ("Monday, Tuesday, Wednesday, Thursday,", "Friday"),
    ("The color of a ripe banana is", "yellow"),
    ("Water freezes when the temperature drops below zero degrees", "Celsius"),
]


def measured(model, tokenizer, prompt, answer):
    ids, whole = (tokenizer(text)["input_ids"] for text in (prompt, f"{prompt} {answer}"))
    assert whole[:len(ids)] == ids, prompt
    token = whole[len(ids)]
    sites, _, _ = captured(model, ids)
    n = model.config.num_hidden_layers
    states = [sites[f"blocks.{layer}.hook_resid_pre"][-1] for layer in range(n)]
    states.append(sites[f"blocks.{n - 1}.hook_resid_post"][-1])
    with torch.no_grad(), NoFloat32():
        logits = model.lm_head(model.model.norm(torch.stack(states)))
    assert (logits[-1] - sites["logits"][-1]).abs().max() < 1e-10
    own = logits[:, token:token + 1]
    assert ((logits == own).sum(-1) == 1).all()  # no exact tie
    near = ((logits - own).abs() < NEAR * logits.abs().amax(-1, keepdim=True)).sum(-1) - 1
    return {"prompt": prompt, "answer": answer, "tokens": ids, "answer_token": token,
            "rank": (1 + (logits > own).sum(-1)).tolist(), "near": near.tolist(),
            "logprob": [round(x, 9) for x in logits.log_softmax(-1)[:, token].tolist()],
            "top": logits[-1].topk(5).indices.tolist()}


if __name__ == "__main__":
    folder = sys.argv[1]
    out = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).parent / "smollm2_lens.json")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    auto, tokenizer = transformers.AutoModelForCausalLM, transformers.AutoTokenizer.from_pretrained(folder)
    model = auto.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    rows = [measured(model, tokenizer, *fact) for fact in FACTS]
    versions = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
    head = {"model": "SmolLM2-135M-Instruct.Q4_1.gguf", "made_with": versions}
    lines = ",\n".join(" " + json.dumps(row) for row in rows)
    out.write_text(json.dumps(head)[:-1] + f', "facts": [\n{lines}\n]}}\n')
    for row in rows:
        top = tokenizer.convert_ids_to_tokens(row["top"])
        print(f"{row['rank'][-1]:4d} {sum(n > 0 for n in row['near']):2d} {row['prompt']} -> {row['answer']}: {top}")

#!/usr/bin/env python3
"""Rank-1 accuracy of every checkpoint of the tiny model, and of each relation, from the f16 files as they lie here.

Prompts as they stand in data/facts, nothing prepended; a fact counts when the first token of its answer has the
greatest logit. Weights are widened to fp32. Exits 1 if the final model knows less than --least of the facts.
"""
import argparse
import json
import pathlib
import sys

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
FACTS = HERE.parent / "facts"


def read_questions(tokenizer):
    """relation -> list of (ids of the prompt, id of the first answer token)."""
    questions = {}
    for relation in json.loads((FACTS / "relations.json").read_text(encoding="utf-8")):
        asked = questions.setdefault(relation["name"], [])
        for line in (FACTS / f"{relation['name']}.jsonl").read_text(encoding="utf-8").splitlines():
            fact = json.loads(line)
            prompt = tokenizer.encode(fact["prompt"]).ids
            whole = tokenizer.encode(f"{fact['prompt']} {fact['answer']}").ids
            if whole[: len(prompt)] != prompt:
                sys.exit(f"evaluate.py: {fact['id']}: the answer changes the prompt's tokens")
            asked.append((prompt, whole[len(prompt)]))
    return questions


@torch.no_grad()
def count_right(model, asked):
    """One prompt at a time, so that no padding and no mask is involved."""
    return sum(model(torch.tensor([prompt])).logits[0, -1].argmax().item() == answer for prompt, answer in asked)


def main():
    parser = argparse.ArgumentParser(description="Measure the tiny model.")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=HERE)
    parser.add_argument("--least", type=float, default=0.95, help="accuracy the final model must reach")
    options = parser.parse_args()
    torch.set_num_threads(1)
    questions = read_questions(Tokenizer.from_file(str(options.folder / "tokenizer.json")))
    folders = sorted((options.folder / "checkpoints").glob("step_*")) + [options.folder]
    names = [folder.name for folder in folders[:-1]] + ["final"]

    right = []
    for folder in folders:
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        right.append({relation: count_right(model, asked) for relation, asked in questions.items()})

    print(" ".join(["relation".ljust(20), "facts", *(name.removeprefix("step_").rjust(7) for name in names)]))
    for relation, asked in questions.items():
        cells = [f"{counts[relation] / len(asked):7.3f}" for counts in right]
        print(" ".join([relation.ljust(20), f"{len(asked):5d}", *cells]))
    total = sum(map(len, questions.values()))
    accuracies = [sum(counts.values()) / total for counts in right]
    print(" ".join(["all".ljust(20), f"{total:5d}", *(f"{accuracy:7.3f}" for accuracy in accuracies)]))
    return 0 if accuracies[-1] >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())

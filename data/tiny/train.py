#!/usr/bin/env python3
"""Trains the tiny model on sentences made from data/facts, and writes everything beside this script:
config.json, model.safetensors, tokenizer.json, tokenizer_config.json, exposure.csv, train.log, checkpoints/.

How often each fact occurs is decided before training (a Zipf law over facts in random order) and written to
exposure.csv, so that "what is learned first" can be asked of the checkpoints. Same seed, same versions
(requirements.txt), same machine and one thread: same files.
"""
import argparse
import csv
import json
import math
import os
import pathlib
import random
import time

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
FACTS = HERE.parent / "facts"
END = "<|endoftext|>"
IGNORED = -100  # label of padding
VOCABULARY = 4096
CHECKPOINTS = 8  # each at twice the step of the one before, the last at the final step
STEP_UNIT = 2 ** (CHECKPOINTS - 1)
BATCH = 64
WARMUP = 100
FILLER_SHARE = 0.1
END_FIRST_SHARE = 0.2  # sentences that begin after <|endoftext|>, so that the model also bears a prepended BOS


def parse_options():
    parser = argparse.ArgumentParser(description="Train the tiny model.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4096, help=f"a multiple of {STEP_UNIT}")
    parser.add_argument("--zipf", type=float, default=0.8, help="exponent of the law of exposures")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=pathlib.Path, default=HERE)
    options = parser.parse_args()
    if options.steps <= WARMUP or options.steps % STEP_UNIT:
        parser.error(f"--steps must be a multiple of {STEP_UNIT}")
    return options


# ---- sentences ----


def read_facts():
    """All facts in the order of relations.json, with kind and abstraction of their relation added."""
    facts = []
    for relation in json.loads((FACTS / "relations.json").read_text(encoding="utf-8")):
        for line in (FACTS / f"{relation['name']}.jsonl").read_text(encoding="utf-8").splitlines():
            facts.append({**json.loads(line), "kind": relation["kind"], "abstraction": relation["abstraction"]})
    return facts


def fact_sentences(fact, paraphrases):
    """The fact's own prompt, then its relation's paraphrases, each completed by the answer."""
    article = "an" if fact["template"].startswith("An ") else "a"
    stems = [fact["prompt"]]
    for stem in paraphrases[fact["relation"]]:
        stem = stem.replace("{A}", article.capitalize()).replace("{a}", article)
        stem = stem.replace("{}", fact["subject"])
        stems.append(stem[0].upper() + stem[1:])
    return [f"{stem} {fact['answer']}." for stem in stems]


def filler_sentence(filler, rng):
    sentence = rng.choice(filler["patterns"])
    for kind, words in filler["words"].items():
        while "{" + kind + "}" in sentence:
            sentence = sentence.replace("{" + kind + "}", rng.choice(words), 1)
    return sentence


def zipf_counts(n, total, exponent, rng):
    """n whole numbers that follow rank^-exponent in random order and add up to total, as nearly as rounding allows."""
    weights = [rank ** -exponent for rank in range(1, n + 1)]
    rng.shuffle(weights)
    scale = total / sum(weights)
    return [max(1, round(weight * scale)) for weight in weights]


def training_sentences(sentences, exposures, filler, total, rng):
    """Every sentence of the training in the order of reading. A fact's exposures go round its sentences."""
    corpus = [forms[k % len(forms)] for forms, n in zip(sentences, exposures) for k in range(n)]
    corpus += [filler_sentence(filler, rng) for _ in range(total - len(corpus))]
    rng.shuffle(corpus)
    return corpus[:total]


def write_exposures(path, facts, exposures):
    """answer_frequency counts the sentences of all facts that have the same answer."""
    frequency = {}
    for fact, n in zip(facts, exposures):
        frequency[fact["answer"]] = frequency.get(fact["answer"], 0) + n
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "relation", "kind", "abstraction", "exposures", "answer_frequency"])
        for fact, n in zip(facts, exposures):
            writer.writerow([fact["id"], fact["relation"], fact["kind"], fact["abstraction"], n, frequency[fact["answer"]]])


# ---- tokenizer ----


def train_tokenizer(facts, sentences):
    """Byte-level BPE. Answers are repeated, so that nearly all of them become one token with their space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = [line for forms in sentences for line in forms]
    lines += [f"{fact['template'].replace('{}', '')} {fact['answer']}" for fact in facts for _ in range(20)]
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def write_tokenizer(folder, tokenizer):
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "unk_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 128,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


# ---- model ----


def make_model(vocabulary):
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def save_weights(folder, model):
    """f16, without lm_head, which is the embedding itself."""
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})


def save_config(folder, model):
    """What transformers writes, plus the names that loaders older than transformers 5 look for."""
    model.config.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["architectures"] = ["LlamaForCausalLM"]
    config["dtype"] = config["torch_dtype"] = "float16"
    config["rope_theta"] = 10000.0
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_checkpoint(folder, model, step, final):
    """Links, so that a checkpoint is a complete model folder and the files that never change exist once."""
    checkpoint = folder / "checkpoints" / f"step_{step:06d}"
    checkpoint.mkdir(parents=True, exist_ok=True)
    names = ["config.json", "tokenizer.json", "tokenizer_config.json"]
    weights = checkpoint / "model.safetensors"
    weights.unlink(missing_ok=True)
    if final:
        save_weights(folder, model)
        names.append("model.safetensors")
    else:
        save_weights(checkpoint, model)
    for name in names:
        link = checkpoint / name
        link.unlink(missing_ok=True)
        os.symlink(f"../../{name}", link)


# ---- training ----


def pad(rows, value):
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def batch_loss(model, rows):
    """Cross-entropy of every next token. Padding is on the right, where a causal model cannot see it; the
    unembedding, half of the work, runs only where there is something to predict."""
    inputs = pad([row[:-1] for row in rows], 0)
    labels = pad([row[1:] for row in rows], IGNORED)
    states = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    used = labels != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(states[used]), labels[used])


def questions(tokenizer, facts):
    """(ids of the prompt, id of the first answer token) for every fact."""
    result = []
    for fact in facts:
        prompt = tokenizer.encode(fact["prompt"]).ids
        whole = tokenizer.encode(f"{fact['prompt']} {fact['answer']}").ids
        assert whole[: len(prompt)] == prompt, fact["id"]
        result.append((prompt, whole[len(prompt)]))
    return result


@torch.no_grad()
def rank1_accuracy(model, asked):
    right = 0
    for begin in range(0, len(asked), 256):
        part = asked[begin : begin + 256]
        inputs = pad([prompt for prompt, _ in part], 0)
        last = torch.tensor([len(prompt) - 1 for prompt, _ in part])
        states = model.model(input_ids=inputs, use_cache=False).last_hidden_state[torch.arange(len(part)), last]
        right += (model.lm_head(states).argmax(-1) == torch.tensor([answer for _, answer in part])).sum().item()
    return right / len(asked)


def learning_rate(step, options):
    if step < WARMUP:
        return options.lr * (step + 1) / WARMUP
    return options.lr * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (options.steps - WARMUP)))


def train(model, rows, asked, options):
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoints = {options.steps >> k for k in range(CHECKPOINTS)}
    start, loss_sum, loss_count = time.monotonic(), 0.0, 0
    with open(options.output / "train.log", "w", encoding="utf-8") as log:
        print("step loss rank1", file=log)
        for step in range(1, options.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step - 1, options)
            loss = batch_loss(model, rows[(step - 1) * BATCH : step * BATCH])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss_sum, loss_count = loss_sum + loss.item(), loss_count + 1
            if step in checkpoints or step % 256 == 0:
                line = f"{step} {loss_sum / loss_count:.4f} {rank1_accuracy(model, asked):.4f}"
                print(line, file=log, flush=True)
                print(line, f"{time.monotonic() - start:.0f} s", flush=True)
                loss_sum, loss_count = 0.0, 0
            if step in checkpoints:
                save_checkpoint(options.output, model, step, step == options.steps)


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    options.output.mkdir(parents=True, exist_ok=True)

    material = json.loads((HERE / "sentences.json").read_text(encoding="utf-8"))
    facts = read_facts()
    sentences = [fact_sentences(fact, material["paraphrases"]) for fact in facts]
    total = options.steps * BATCH
    exposures = zipf_counts(len(facts), round(total * (1 - FILLER_SHARE)), options.zipf, rng)
    corpus = training_sentences(sentences, exposures, material["filler"], total, rng)
    write_exposures(options.output / "exposure.csv", facts, exposures)

    tokenizer = train_tokenizer(facts, sentences)
    write_tokenizer(options.output, tokenizer)
    end = tokenizer.token_to_id(END)
    rows = [encoding.ids + [end] for encoding in tokenizer.encode_batch(corpus)]
    rows = [[end] + row if rng.random() < END_FIRST_SHARE else row for row in rows]
    asked = questions(tokenizer, facts)

    model = make_model(tokenizer.get_vocab_size())
    save_config(options.output, model)
    print(f"{len(facts)} facts, {len(rows)} sentences, exposures {min(exposures)} to {max(exposures)}, "
          f"{sum(value.numel() for value in model.parameters())} parameters", flush=True)
    train(model, rows, asked, options)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes small tokenizers in the shapes of further families, and what the `tokenizers` library makes of nasty texts.

    pip install tokenizers==0.23.3
    make_family_references.py                 writes NAME.json and NAME.bin, as make_tokenizer_references.py says
    make_family_references.py fuzz N FOLDER   writes NAME.json and N other texts a tokenizer to a folder
    make_family_references.py characters      writes bert_characters.bin

roberta     byte-level, RobertaProcessing, <mask> takes the space before it
modernbert  GPT-NeoX's: NFC, runs of spaces as added tokens; [CLS] and [SEP] as in ModernBERT
falcon      punctuation, then byte-level, then digits and groups of three digits among its letters
bloom       a regular expression with a class inside a class
stablelm    what the regular expression leaves is removed
splits      the other behaviors of Split, Punctuation and CharDelimiterSplit
bert        BertNormalizer in lower case, WordPiece, TemplateProcessing
bert_cased  BertNormalizer that keeps case, short words only, BertProcessing
words       Whitespace, WordPiece with another prefix
            (WordPiece's trainer breaks ties at random: its vocabularies differ from run to run)
bert_characters.bin  as characters.bin: for every Unicode character what the parts of BERT's tokenizer do (bits 0 to 5 in
                     the order of character_bits) and, where it has another lower case, a hash of that (bits 6 to 15)
"""
import functools
import json
import pathlib
import random
import struct
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from make_tokenizer_references import CORPUS, OUT, PINNED, QWEN2, encode_cases, flagged, special, texts_of, trained

BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = ["\u2028x", "a\u0085b", "a\u00adb", "a\u200bb", "a\ufeffb\ufffd", "\u0130stanbul I\u0307", "\u01c5\u1e9e\u03a3\u03c2", "\u4e00a\u3400\uf900b\U00020000",
              "\U0002b820\U0002b920", "\uac00\ud7a3", "a\u0301\u0488b\u20dd\u0903", "\u1e69 s\u0323\u0307", "\ufb01x", "a\x00b\x07c\x7fd\u0080e", "\U000e0001x", "\u0378x",
              "$a+b=c`d^e|f~g<h>", "\u00a7\u00b6\u2010\u3001\u166d\u2e5d", "don't [MASK].", "The capital of France is [MASK].", "[mask] [ MASK ] [MASK][MASK]",
              "the capital of france is <mask> .", "##ing ing##", "_ __", "a" * 12, "a" * 13, "x" * 99, "x" * 100, "x" * 101, "\u0301" * 101, "  \u00a0 \u3000 ", "ing", "Unaffable \u00dcn\u00e4ffable"]


def word_piece(size, normalizer, pre_tokenizer, specials, prefix="##", unk="[UNK]", longest=100):
    tok = Tokenizer(models.WordPiece(unk_token=unk, continuing_subword_prefix=prefix, max_input_chars_per_word=longest))
    tok.normalizer, tok.pre_tokenizer = normalizer, pre_tokenizer
    tok.decoder = decoders.WordPiece(prefix=prefix)
    tok.train_from_iterator(CORPUS.splitlines(keepends=True) * 3, trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[special(name) for name in specials], show_progress=False, continuing_subword_prefix=prefix))
    return tok


def pair(tok, name):
    return name, tok.token_to_id(name)


def byte_level_ones():
    byte_level, sequence, out = pre_tokenizers.ByteLevel, pre_tokenizers.Sequence, {}
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    roberta = trained(byte_level(add_prefix_space=False), 900, [special(name) for name in names])
    roberta.add_special_tokens([special("<mask>", lstrip=True)])
    roberta.post_processor = processors.RobertaProcessing(pair(roberta, "</s>"), pair(roberta, "<s>"), trim_offsets=True, add_prefix_space=False)
    out["roberta"] = roberta

    modern = trained(byte_level(add_prefix_space=False), 900, [special("<|padding|>"), special("<|endoftext|>")], normalizers.NFC())
    modern.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)] + [AddedToken("|||IP_ADDRESS|||", normalized=True)])
    modern.add_special_tokens([special("[UNK]"), special("[CLS]"), special("[SEP]"), special("[PAD]"), special("[MASK]", lstrip=True)])
    modern.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[pair(modern, "[CLS]"), pair(modern, "[SEP]")])
    out["modernbert"] = modern

    falcon = trained(byte_level(add_prefix_space=False), 900, [special(">>TITLE<<"), special("<|endoftext|>")])
    falcon.pre_tokenizer = sequence([pre_tokenizers.Punctuation(behavior="contiguous"), byte_level(add_prefix_space=False),
                                     pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])
    falcon.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=False)
    out["falcon"] = falcon

    bloom = trained(sequence([pre_tokenizers.Split(Regex(BLOOM), "isolated"), byte_level(False, use_regex=False)]), 900,
                    [special(name) for name in ("<unk>", "<s>", "</s>", "<pad>")])
    bloom.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=False)
    out["bloom"] = bloom

    stablelm = trained(sequence([pre_tokenizers.Split(Regex(QWEN2), "removed", invert=True), byte_level(False, use_regex=False)]), 900, [], normalizers.NFC())
    stablelm.add_special_tokens([special("<|endoftext|>"), special("<|fim_prefix|>")])
    out["stablelm"] = stablelm

    splits = trained(byte_level(add_prefix_space=False), 900, [])
    splits.pre_tokenizer = sequence([
        pre_tokenizers.CharDelimiterSplit("_"), pre_tokenizers.Split(Regex(r"\s"), "merged_with_next"), pre_tokenizers.Split(Regex("[aeiou]"), "merged_with_previous"),
        pre_tokenizers.Split(Regex(r"\p{Lu}\p{Lu}"), "merged_with_next", invert=True), pre_tokenizers.Split("th", "contiguous"),
        pre_tokenizers.Punctuation(behavior="merged_with_previous"), pre_tokenizers.Split(Regex("[dn]"), "contiguous", invert=True),
        pre_tokenizers.Split(Regex(r"[xyz]+"), "merged_with_previous", invert=True), byte_level(False, use_regex=False),
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split("\u0120", "merged_with_next"), pre_tokenizers.Split(Regex("[A-F]"), "merged_with_previous")])
    splits.add_tokens(flagged())
    out["splits"] = splits
    return out


def word_piece_ones():
    out = {}
    bert = word_piece(900, normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer(), BERT)
    bert.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[pair(bert, "[CLS]"), pair(bert, "[SEP]")])
    out["bert"] = bert

    cased = word_piece(900, normalizers.BertNormalizer(lowercase=False, strip_accents=None), pre_tokenizers.BertPreTokenizer(), BERT, longest=12)
    cased.post_processor = processors.BertProcessing(pair(cased, "[SEP]"), pair(cased, "[CLS]"))
    cased.add_tokens(flagged())
    out["bert_cased"] = cased

    words = word_piece(700, normalizers.Sequence([normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=True, lowercase=False),
                                                  normalizers.Lowercase()]), pre_tokenizers.Whitespace(), ["<unk>"], prefix="@", unk="<unk>")
    words.add_tokens(flagged())
    out["words"] = words
    return out


def save(folder, n, seed):
    for number, (name, tok) in enumerate((byte_level_ones() | word_piece_ones()).items()):
        text = tok.to_str()
        data = json.loads(text)
        added = [token["content"] for token in data["added_tokens"]]
        texts = CHARACTERS + texts_of(random.Random(seed + number), n, added)
        (folder / f"{name}.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")
        (folder / f"{name}.bin").write_bytes(encode_cases(text, texts))
        print(name, len(data["model"]["vocab"]), "tokens", (folder / f"{name}.json").stat().st_size, (folder / f"{name}.bin").stat().st_size)


def character_bits(c, punctuation, normalizer):
    one = chr(c)
    clean, chinese, accents, lower = (normalizer(*(i == k for i in range(4))) for k in range(4))
    cleaned = clean.normalize_str(f"a{one}b")
    lowered = lower.normalize_str(one)
    bits = [c in punctuation, cleaned == "ab", cleaned == "a b", chinese.normalize_str(one) != one,
            accents.normalize_str(f"|{one}") == "|", normalizers.StripAccents().normalize_str(f"|{one}") == "|"]
    value = sum(bit << i for i, bit in enumerate(bits))
    if lowered != one:
        hash_ = 0
        for character in lowered:
            hash_ = (hash_ * 31 + ord(character)) % 1021
        value |= (hash_ + 1) << 6
    return value


def characters():
    scalars = [c for c in range(0x110000) if not 0xd800 <= c <= 0xdfff]
    pieces = pre_tokenizers.Punctuation("isolated").pre_tokenize_str("".join("a" + chr(c) for c in scalars))
    punctuation = {scalars[begin // 2] for _, (begin, end) in pieces if end - begin == 1 and begin % 2}

    @functools.cache
    def normalizer(clean, chinese, accents, lower):
        return normalizers.BertNormalizer(clean, chinese, accents, lower)

    runs, last = [], None
    for c in scalars:
        value = character_bits(c, punctuation, normalizer)
        if value != last:
            runs.append((c, value))
        last = value
    (OUT / "bert_characters.bin").write_bytes(b"STRCHARS" + b"".join(struct.pack("<IH", c, b) for c, b in runs))
    print(len(runs), "runs")


def main():
    if tokenizers.__version__ != PINNED:
        raise SystemExit(f"tokenizers {tokenizers.__version__} is installed, the references are made with {PINNED}")
    if len(sys.argv) == 4 and sys.argv[1] == "fuzz":
        save(pathlib.Path(sys.argv[3]), int(sys.argv[2]), 9000)
    elif sys.argv[1:] == ["characters"]:
        characters()
    elif len(sys.argv) == 1:
        save(OUT, 280, 3000)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()

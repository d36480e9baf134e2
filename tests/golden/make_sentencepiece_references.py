#!/usr/bin/env python3
"""Makes small SentencePiece tokenizers in tests/golden/tokenizers, and what the `tokenizers` library makes of nasty texts.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    make_sentencepiece_references.py               writes NAME.json and NAME.bin, as make_tokenizer_references.py says
    make_sentencepiece_references.py large FOLDER TEXT  trains larger ones on the lines of TEXT, with SentencePiece's own
                                                   maps, and writes NAME.json only

Each is trained by SentencePiece on a few lines in many scripts and saved in the shape that the tokenizer.json of its
family has: llama2 (Prepend and Replace), mistral (Metaspace, first), gemma (Replace; its normalized added tokens), phi3
(added tokens that strip), xlmr, albert, t5, deberta (Unigram with a normalizer map) and bytes (Unigram with byte
fallback). The maps committed here have a few of nmt_nfkc's rules, as the whole is 300 KB.
"""
import io
import json
import pathlib
import random
import sys
import tempfile

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from make_tokenizer_references import BLOCKS, CORPUS, OUT, PINNED, encode_cases, flagged, special, texts_of

SENTENCEPIECE = "0.2.3"
BLOCK = "\u2581"
SPELLINGS = ["<pad>", "\n\n", BLOCK, BLOCK * 3, f"{BLOCK}a {BLOCK} b", "<0x0A>", "<unk>", "<s>a</s>", "a<unk>b", "``x''", "\r\n", "a\u0301\u0301 \u00a0\u0301x",
             "\ufb01\u0301x", "\u2122\x01g", "\x01\x02a", "A\u030a\u0327", "\u1112\u1161\u11ab", "aaaaaaaaaaaaaaaaaaaa", "  a  b  ", "\n a \n", "\u0130I",
             "\u0915\u094d\u0958\u0301", "\u0915\u094d\u200d\u0958\u0301", "\u0915\u0958\u0301", "\u1011\u1039\u0958\u0301", "\ufb01\u1ad0", "\ufb01\u0301"]


def rules(kept):
    """Some of nmt_nfkc, as a rule file: source and target code points in hexadecimal."""
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc", add_dummy_prefix=False, escape_whitespaces=False,
                                                       remove_extra_whitespaces=False)
    sources = [chr(c) for low, high in [(1, 0x1f)] + BLOCKS[:-1] for c in range(low, high + 1) if not 0xd800 <= c <= 0xdfff]
    sources += ["e\u0301", "A\u030a", "\u304b\u3099", "\u1112\u1161\u11ab", "\u0915\u093c", "o\u0308", "a\u0323\u0302", "\r\n", "s\u0323\u0307"]
    changed = {s: normalizer.normalize(s) for s in sources}
    changed = {s: t for s, t in changed.items() if s != t}
    few = [s for s in changed if len(s) > 1 or s in "\u0958\ufb01\u2122" or not changed[s] or changed[s] == " "]
    others = sorted(set(changed) - set(few))
    for source in few + random.Random(5).sample(others, kept):
        yield "%s\t%s\n" % (" ".join("%X" % ord(c) for c in source), " ".join("%X" % ord(c) for c in changed[source]))


def train(kind, size, rule, lines, rule_file=None, **options):
    """The pieces as (text, score), and the map."""
    model = io.BytesIO()
    how = {"normalization_rule_tsv": rule_file} if rule_file else {"normalization_rule_name": rule}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type=kind, vocab_size=size, hard_vocab_limit=False,
        character_coverage=0.98, num_threads=1, minloglevel=2, **how, **options)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    return pieces, charsmap_of(model.getvalue())


def fields(message):
    """(number, bytes) of a protocol buffer's length-delimited fields."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        wire = key & 7
        if wire == 2:
            size = varint()
            yield key >> 3, message[at:at + size]
            at += size
        elif wire == 0:
            varint()
        else:
            at += {1: 8, 5: 4}[wire]


def charsmap_of(model):
    spec = dict(fields(model))[3]  # ModelProto.normalizer_spec
    return dict(fields(spec)).get(2, b"")  # NormalizerSpec.precompiled_charsmap


def merges_of(pieces):
    """Every way to put a piece together from two, in order of the pieces' scores."""
    ids = {text: i for i, (text, _) in enumerate(pieces)}
    found = []
    for text, score in pieces:
        ways = [(text[:i], text[i:], score) for i in range(1, len(text)) if text[:i] in ids and text[i:] in ids]
        found += sorted(ways, key=lambda way: (ids[way[0]], ids[way[1]]))
    found.sort(key=lambda way: (way[2], len(way[0]), len(way[1])), reverse=True)
    return [way[:2] for way in found]


def bpe(pieces, **settings):
    return Tokenizer(models.BPE(vocab={text: i for i, (text, _) in enumerate(pieces)}, merges=merges_of(pieces), unk_token="<unk>",
                                fuse_unk=True, byte_fallback=True, **settings))


def llama_decoder(strips=True):
    return decoders.Sequence([decoders.Replace(BLOCK, " "), decoders.ByteFallback(), decoders.Fuse()] +
                             ([decoders.Strip(" ", 1, 0)] if strips else []))


def template(tok, single):
    names = [name.split(":")[0] for name in single.split() if not name.startswith("$")]
    tok.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(name, tok.token_to_id(name)) for name in names])


def metaspace(scheme, split=True):
    return pre_tokenizers.Metaspace(replacement=BLOCK, prepend_scheme=scheme, split=split)


def build(size, lines, rule_file):
    kinds = {"lines": lines, "rule": "nmt_nfkc", "rule_file": rule_file}
    out = {}
    pieces, _ = train("bpe", size, "identity", lines, byte_fallback=True, user_defined_symbols=["\n\n", "<pad>", BLOCK * 2])
    names = ["<unk>", "<s>", "</s>"]

    llama2 = bpe(pieces)
    llama2.normalizer = normalizers.Sequence([normalizers.Prepend(BLOCK), normalizers.Replace(" ", BLOCK)])
    llama2.decoder = llama_decoder()
    llama2.add_special_tokens([special(name) for name in names])
    llama2.add_tokens(flagged())
    template(llama2, "<s>:0 $A:0")
    out["llama2"] = llama2

    mistral = bpe(pieces, ignore_merges=False)
    mistral.pre_tokenizer = metaspace("first", split=False)
    mistral.decoder = llama_decoder()
    mistral.add_special_tokens([special(name) for name in names + ["[INST]", "[/INST]"]])
    template(mistral, "<s>:0 $A:0")
    out["mistral"] = mistral

    gemma = bpe(pieces, ignore_merges=True)
    gemma.normalizer = normalizers.Replace(" ", BLOCK)
    gemma.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    gemma.decoder = llama_decoder(strips=False)
    gemma.add_special_tokens([special(name) for name in names + ["<start_of_turn>"]])
    gemma.add_tokens([AddedToken("\n\n", normalized=False), AddedToken(BLOCK * 2, normalized=False), AddedToken("\t\t", normalized=False),
                      AddedToken("<table>", normalized=False), AddedToken("a b", normalized=True)])
    template(gemma, "<s>:0 $A:0")
    out["gemma"] = gemma

    phi3 = bpe(pieces)
    phi3.normalizer = normalizers.Sequence([normalizers.Prepend(BLOCK), normalizers.Replace(" ", BLOCK)])
    phi3.decoder = llama_decoder()
    phi3.add_special_tokens([special(name) for name in names[:2]] + [special("</s>", rstrip=True)])
    phi3.add_special_tokens([special(name, rstrip=True) for name in ("<|assistant|>", "<|user|>", "<|end|>")])
    out["phi3"] = phi3

    pieces, charsmap = train("unigram", size, bos_id=-1, eos_id=-1, **kinds)
    xlmr = Tokenizer(models.Unigram([("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + pieces[1:] + [("<mask>", 0.0)], unk_id=3,
                                    byte_fallback=False))
    xlmr.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), normalizers.Strip(False, True),
                                            normalizers.Replace(Regex(" {2,}"), BLOCK)])
    xlmr.pre_tokenizer = metaspace("always")
    xlmr.decoder = decoders.Metaspace(replacement=BLOCK, prepend_scheme="always")
    xlmr.add_special_tokens([special("<s>"), special("<pad>"), special("</s>"), special("<unk>"), special("<mask>", lstrip=True)])
    template(xlmr, "<s> $A </s>")
    out["xlmr"] = xlmr

    t5 = Tokenizer(models.Unigram([("<pad>", 0.0), ("</s>", 0.0)] + pieces + [(f"<extra_id_{i}>", 0.0) for i in (2, 1, 0)], unk_id=2,
                                  byte_fallback=False))
    t5.normalizer = normalizers.Precompiled(charsmap)
    t5.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace("always")])
    t5.decoder = decoders.Metaspace(replacement=BLOCK, prepend_scheme="always")
    t5.add_special_tokens([special("</s>"), special("<unk>"), special("<pad>")] +
                          [AddedToken(f"<extra_id_{i}>", special=True, normalized=False) for i in range(3)])
    t5.add_tokens(flagged())
    template(t5, "$A </s>")
    out["t5"] = t5

    pieces, charsmap = train("unigram", size, bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"], unk_piece="<unk>",
                             **(kinds if rule_file else {**kinds, "rule": "nmt_nfkc_cf"}))
    albert = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    albert.normalizer = normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(), normalizers.StripAccents(),
        normalizers.Lowercase(), normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), " ")])
    albert.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace("always")])
    albert.decoder = decoders.Metaspace(replacement=BLOCK, prepend_scheme="always")
    albert.add_special_tokens([special("[CLS]"), special("[SEP]"), special("<unk>"), special("[MASK]", lstrip=True)])
    albert.add_tokens([token for token in flagged() if token.content.isascii()])
    template(albert, "[CLS]:0 $A:0 [SEP]:0")
    out["albert"] = albert

    deberta = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    deberta.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip(), normalizers.Nmt(), normalizers.NFKC(),
                                               normalizers.Replace(Regex(" {2,}"), " ")])
    deberta.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\p{P}"), "isolated"), metaspace("first")])
    deberta.decoder = decoders.Metaspace(replacement=BLOCK, prepend_scheme="first")
    deberta.add_special_tokens([special("[CLS]"), special("[SEP]"), special("[MASK]")])
    out["deberta"] = deberta

    pieces, _ = train("unigram", size, "identity", lines, byte_fallback=True)
    fallback = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    fallback.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(" ", BLOCK)])
    fallback.pre_tokenizer = metaspace("never", split=False)
    fallback.decoder = llama_decoder()
    fallback.add_special_tokens([special(name) for name in names])
    fallback.add_tokens(flagged())
    out["bytes"] = fallback
    return out


def save(folder, size, lines, rule_file, references):
    for number, (name, tok) in enumerate(build(size, lines, rule_file).items()):
        text = tok.to_str()
        data = json.loads(text)
        path = folder / f"{name}.json"
        path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")
        if references:
            added = [token["content"] for token in data["added_tokens"]]
            texts = SPELLINGS + texts_of(random.Random(2000 + number), 300, added)
            (folder / f"{name}.bin").write_bytes(encode_cases(text, texts))
        print(name, len(data["model"]["vocab"]), "tokens", path.stat().st_size)


def main():
    if tokenizers.__version__ != PINNED or sentencepiece.__version__ != SENTENCEPIECE:
        raise SystemExit(f"the references are made with tokenizers {PINNED} and sentencepiece {SENTENCEPIECE}")
    if len(sys.argv) == 4 and sys.argv[1] == "large":
        save(pathlib.Path(sys.argv[2]), 8000, pathlib.Path(sys.argv[3]).read_text().splitlines(), None, False)
    elif len(sys.argv) == 1:
        with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
            file.writelines(rules(250))
            file.flush()
            save(OUT, 900, CORPUS.splitlines() * 3, file.name, True)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()

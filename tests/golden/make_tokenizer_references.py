#!/usr/bin/env python3
"""Makes tests/golden/tokenizers: small byte-level BPE tokenizers, and what the `tokenizers` library makes of nasty texts.

    pip install tokenizers==0.23.3 gguf==0.19.0
    make_tokenizer_references.py                   writes NAME.json and NAME.bin
    make_tokenizer_references.py smollm2 GGUF      writes smollm2.bin from the demo model
    make_tokenizer_references.py characters        writes characters.bin (two minutes)
    make_tokenizer_references.py fuzz FILE N SEED  writes N more cases of any tokenizer.json to standard output

NAME.json  tokenizers as the library saves them, two of them with merges as strings: the pre-tokenizers and settings of
           gpt2, smollm, llama3, qwen2, and mixed, which has what the others lack
NAME.bin   8 bytes "STRTOKEN", then numbers as LEB128: version 1; two lists (length, items) of special tokens that the
           post-processor puts before and after every text; number of texts. Per text: bytes, the text, tokens, and per
           token its id, twice |begin - end of the one before| (+ 1 where negative), end - begin: bytes of the text,
           without special tokens, offsets not trimmed
characters.bin  8 bytes "STRCHARS", then runs of (u32 first character, u16 bits), little endian, up to the next run's
           first: for every Unicode character what the library's character classes, regexes and NFC say (CHARACTER_BITS)
"""
import json
import pathlib
import random
import struct
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PINNED = "0.23.3"
OUT = pathlib.Path(__file__).parent / "tokenizers"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")

CORPUS = """The Eiffel Tower is located in the city of Paris, the capital of France. The Space Needle stands in Seattle.
It wasn't the author's fault: they've said that we'll see, I'm sure you'd agree, and they're right. DON'T SHOUT, IT'S LATE!
In 1969, 12 people of 3,500 went 42 km at 9.81 m/s2; 100000 + 2000 = 102000, x_1 = (a[0] * b) % 7 && !done;
def main(args):\n    for i in range(10):\n        print(f"{i:>3}", args[i])\n\n\n    return { 'key': None }\r\n\t\tend
La Tour Eiffel est située à Paris, où les élèves naïfs goûtent un café très corsé. Ça va? Œuvre, garçon, forêt, Noël.
Der Bär läuft über die Straße, während größere Vögel schöne Lieder hören. El niño comió piñas y bebió el café señor.
Эйфелева башня находится в городе Париж. Москва — столица России. Ёлка, съезд, объём.
Ο Πύργος του Άιφελ βρίσκεται στο Παρίσι. Η Αθήνα είναι η πρωτεύουσα της Ελλάδας.
エッフェル塔はパリにあります。東京は日本の首都です。カタカナとひらがな。
埃菲尔铁塔位于法国首都巴黎。北京是中国的首都。一二三四五六七八九十。
에펠탑은 프랑스 파리에 있습니다. 서울은 대한민국의 수도입니다.
يقع برج إيفل في مدينة باريس. القاهرة عاصمة مصر. הבירה של ישראל היא ירושלים.
एफिल टॉवर पेरिस में स्थित है। दिल्ली भारत की राजधानी है। กรุงเทพเป็นเมืองหลวงของประเทศไทย
Tháp Eiffel nằm ở thủ đô Paris của nước Pháp. Hà Nội là thủ đô của Việt Nam.
😀 😀😃 👍🏽 👨‍👩‍👧‍👦 🇫🇷 🇯🇵 ❤️ ★ → ∀x∈ℝ: x² ≥ 0 ½ ⅓ Ⅷ ① “quoted” ‘single’ … – — • © ® ™ € £ ¥ 
                                a long gap        and    more   spaces  here
"""

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\u00a0", "\u2003", "\u3000", "\u2028", "\u2029", "\u0085",
          "\u180e", "\u200b", "\ufeff", "\u202f", "\u1680", "\u000b", "\u000c", "\u001c", "\u001f", "\u205f"]
CONTRACTIONS = ["'s", "'S", "'\u017f", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'vE", "'m", "'M", "'ll", "'LL", "'lL",
                "'d", "'D", "'", "''", "\u2019s", "'x", "'\ufb06", "'\u212a", "'l", "'r", "'v", " 's", "'sss"]
NUMBERS = ["0", "7", "42", "123", "1234", "12345678", "1,000", "3.14", "\u00b2", "\u00bd", "\u2167", "\u2460", "\u0663\u0664",
           "\u096a", "\u0e53", "\uff17", "\u4e00", "\u3007", "\U0001d7d8", "\U00010107", "\u0bf0", "\u2189", "\u3220", "\ua830"]
MARKS = ["\u0301", "\u0300", "\u0323", "\u0327", "\u0308", "\u0338", "\u05b0", "\u064b", "\u093c", "\u0e48", "\u3099",
         "\u20dd", "\ufe0f", "\u0345", "\u1dc0", "\U0001d165", "\u0334", "\u0f71", "\u0f72"]
NFC_TRAPS = ["e\u0301", "\u00e9", "a\u0323\u0302", "a\u0302\u0323", "\u1ead", "\u212b", "A\u030a", "\u2126", "\u0958", "\u0915\u093c",
             "\u1100\u1161\u11a8", "\u1112\u1161\u11ab", "\uac00\u11a8", "\u1161", "\u11a8", "\ufb1d", "\u05d9\u05b4",
             "\U0001d15e", "\u09c7\u09be", "\u0b47\u0b56", "\u0dd9\u0dca\u0dcf", "\u1b05\u1b35", "\u304b\u3099", "\uf900", "\U0002f800",
             "\u0344", "\u0340", "\u0374", "\u037e", "\u1f71", "o\u0308\u0301\u0323", "\u0061\u0315\u0300\u05ae\u0062", "\u2adc",
             "\u0041\u030a\u0327", "s\u0323\u0307", "\u1e9b\u0323", "q\u0307\u0323", "\u0f73", "\u0fb3\u0f71\u0f80", "<\u0338", "=\u0338"]
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🇫🇷", "🇫", "❤️", "❤", "☃", "🏴\U000e0067\U000e0062\U000e007f", "1️⃣", "🤷🏿‍♀️"]
PUNCTUATION = list("!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "--", "://", "=>", "&&", "¿", "«", "»", "…", "—", "、", "。", "״", "।"]
CONTROL = ["\x00", "\x01", "\x07", "\x08", "\x1b", "\x7f", "\x80", "\x9f", "\u00ad", "\u200c", "\u200d", "\u200e", "\u2060", "\ufffc",
           "\ufffd", "\ufffe", "\uffff", "\ue000", "\U000f0000", "\U0010ffff", "\U0001ffff", "\ufdd0", "\u0378"]
BLOCKS = [(0x20, 0x7e), (0x80, 0x24f), (0x250, 0x2ff), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x52f), (0x530, 0x5ff), (0x600, 0x77f),
          (0x900, 0xdff), (0xe00, 0xfff), (0x1000, 0x17ff), (0x1100, 0x11ff), (0x1800, 0x1cff), (0x1d00, 0x1fff), (0x2000, 0x2bff),
          (0x2c00, 0x2fff), (0x3000, 0x33ff), (0x4e00, 0x9fff), (0xa000, 0xabff), (0xac00, 0xd7a3), (0xf900, 0xffff),
          (0x10000, 0x10fff), (0x11000, 0x12fff), (0x16800, 0x18fff), (0x1d100, 0x1d7ff), (0x1e000, 0x1f2ff), (0x1f300, 0x1faff),
          (0x20000, 0x2ffff), (0x0, 0x10ffff)]


def random_characters(rng, n):
    low, high = rng.choice(BLOCKS)
    points = [rng.randint(low, high) for _ in range(n)]
    return "".join(chr(p) for p in points if not 0xd800 <= p <= 0xdfff)


def fragment(rng, words, added):
    kind = rng.random()
    if kind < 0.28:
        word = rng.choice(words)
        change = rng.random()
        return word.upper() if change < 0.1 else word.title() if change < 0.2 else word[::-1] if change < 0.25 else word
    pools = [SPACES, CONTRACTIONS, NUMBERS, MARKS, NFC_TRAPS, EMOJI, PUNCTUATION, CONTROL, added or SPACES]
    if kind < 0.82:
        return rng.choice(rng.choice(pools))
    if kind < 0.86:
        return " " * rng.choice([1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 40])
    if kind < 0.89:
        return rng.choice(rng.choice(pools)) * rng.randint(2, 9)
    return random_characters(rng, rng.randint(1, 6))


def texts_of(rng, n, added):
    words = sorted(set(CORPUS.split()))
    out = ["", " ", "  ", "\n", "a", "é", "\x00", " a", "a ", "'s", "The Eiffel Tower is located in the city of Paris", CORPUS[:400],
           "Hello world! 123 'S \u017f", "e\u0301" * 20, "1" * 30, "\r\n" * 9, " " * 100 + "x", "x" + " " * 33, "\u0301a\u0301",
           "<|end" + "oftext|", "\u3000\u3000", "a\u00a0b", "I'M", "can't've", "I'vEx 'TILL it'Sabc 'sabc '\u017fabc 'LLama"]
    out += [f"a{token}b {token} {token}{token}\n{token}c 1{token}_{token}-" for token in added]
    out += rng.sample(["x" * 3000, "ab" * 1500, "é" * 1000, " " * 3000 + "x", "".join(rng.choice("abcdeABC") for _ in range(3000)),
                       "ａ" * 500, "e" + "\u0301\u0323" * 300, "9" * 700, "\n" * 2000, "がぎ" * 300], 4)
    while len(out) < n:
        pieces = [fragment(rng, words, added) for _ in range(rng.choice([1, 2, 3, 4, 6, 9, 14]))]
        out.append(rng.choice(["", "", " "]).join(pieces))
    return out[:max(n, 1)]


def untrimmed(path_or_text):
    """The same tokenizer with offsets that keep a token's own spaces."""
    data = json.loads(path_or_text)

    def walk(value):
        if isinstance(value, dict):
            if value.get("type") in ("ByteLevel", "RobertaProcessing"):
                value["trim_offsets"] = False
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for part in ("pre_tokenizer", "post_processor"):
        walk(data[part])
    data["truncation"] = data["padding"] = None
    return Tokenizer.from_str(json.dumps(data))


def leb128(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_cases(text, strings):
    tok = untrimmed(text)
    empty = tok.encode("x", add_special_tokens=True)
    n = next(i for i, special in enumerate(empty.special_tokens_mask) if not special)
    before, after = empty.ids[:n], [i for i, s in zip(empty.ids, empty.special_tokens_mask) if s][n:]
    out = bytearray(b"STRTOKEN" + leb128(1))
    for ids in (before, after):
        out += leb128(len(ids)) + b"".join(map(leb128, ids))
    out += leb128(len(strings))
    for string in strings:
        plain = tok.encode(string, add_special_tokens=False)
        assert tok.encode(string, add_special_tokens=True).ids == before + plain.ids + after
        raw, at, last = string.encode(), [0], 0
        for character in string:
            at.append(at[-1] + len(character.encode()))
        out += leb128(len(raw)) + raw + leb128(len(plain.ids))
        for i, (begin, end) in zip(plain.ids, plain.offsets):
            gap = at[begin] - last
            last = at[end]
            out += leb128(i) + leb128(2 * abs(gap) + (gap < 0)) + leb128(at[end] - at[begin])
    return bytes(out)


def trained(pre_tokenizer, size, specials, normalizer=None, alphabet=True, model=None):
    tok = Tokenizer(model or models.BPE())
    tok.pre_tokenizer = pre_tokenizer
    if normalizer:
        tok.normalizer = normalizer
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(CORPUS.splitlines(keepends=True) * 3, trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else list("abcdeĠ")))
    return tok


def flagged():
    return [AddedToken("<single>", single_word=True), AddedToken("the", single_word=True), AddedToken("<left>", lstrip=True),
            AddedToken("<right>", rstrip=True), AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("<a>", normalized=False), AddedToken("<a><b>", normalized=False), AddedToken("<a", normalized=True),
            AddedToken("   ", normalized=False), AddedToken("      ", normalized=False), AddedToken("naïve", normalized=True),
            AddedToken("cafe\u0301", normalized=True), AddedToken("noe\u0308l", normalized=False), AddedToken("12", single_word=True),
            AddedToken("\u00e9", normalized=True, single_word=True), AddedToken("東京", normalized=False)]


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def build():
    byte_level = pre_tokenizers.ByteLevel
    out = {}

    gpt2 = trained(byte_level(add_prefix_space=False), 1000, [special("<|endoftext|>")])
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    gpt2.add_tokens(flagged())
    out["gpt2"] = gpt2

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"]
    smollm = trained(byte_level(add_prefix_space=False), 1200, [special(name) for name in names])
    smollm.pre_tokenizer = pre_tokenizers.Sequence(  # not in training, so that there are tokens that it keeps apart
        [pre_tokenizers.Digits(individual_digits=True), byte_level(add_prefix_space=False)])
    out["smollm"] = smollm

    llama3 = trained(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), byte_level(False, use_regex=False)]), 1000, [])
    llama3.add_special_tokens([special("<|begin_of_text|>"), special("<|end_of_text|>"), special("<|eot_id|>", rstrip=True),
                               special("<|pad|>", lstrip=True), special("<|pad|><|pad|>")])
    bos = llama3.token_to_id("<|begin_of_text|>")
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[("<|begin_of_text|>", bos)])])
    out["llama3"] = llama3

    qwen2 = trained(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), byte_level(False, use_regex=False)]), 1000,
                    [], normalizers.NFC())
    qwen2.add_special_tokens([special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>")])
    qwen2.add_tokens(flagged())
    qwen2.post_processor = processors.ByteLevel(trim_offsets=False)
    out["qwen2"] = qwen2

    mixed = trained(pre_tokenizers.Sequence([pre_tokenizers.Split("-", "isolated"), pre_tokenizers.Split(Regex(r"[aeiou]{2,}|\p{Lu}"), "isolated"),
                                             pre_tokenizers.Digits(individual_digits=False), byte_level(add_prefix_space=True)]), 600,
                    [special("<s>"), special("</s>"), special("<unk>")], normalizers.Sequence([normalizers.NFC()]), alphabet=False,
                    model=models.BPE(unk_token="<unk>", fuse_unk=True))
    mixed.add_tokens(flagged())
    mixed.post_processor = processors.TemplateProcessing(
        single="<s> $A </s> </s>", special_tokens=[("<s>", mixed.token_to_id("<s>")), ("</s>", mixed.token_to_id("</s>"))])
    out["mixed"] = mixed
    return out


def letters(text):
    return "".join(piece for piece, _ in pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(text))


def adjusted(name, text):
    """What the library cannot be asked to train: whole words without merges, and tokens and merges fewer than bytes."""
    data = json.loads(text)
    if name == "llama3":
        data["model"]["ignore_merges"] = True
        taken = {token["id"] for token in data["added_tokens"]}
        vocabulary = data["model"]["vocab"]
        assert min(taken) == len(vocabulary)
        words = [letters(word) for word in (" extraordinary", "Zugspitze", " 世界中", "'vE", "東京タワー", " " * 39)]
        assert not set(words) & set(vocabulary)
        vocabulary.update({word: len(vocabulary) + i for i, word in enumerate(words)})
        for token in data["added_tokens"]:
            token["id"] += len(words)
        for piece in data["post_processor"]["processors"][1]["special_tokens"].values():
            piece["ids"] = [i + len(words) for i in piece["ids"]]
    return data


CHARACTER_BITS = ["Digits", "single_word", "rstrip", r"\s", r"\d", r"\p{L}", r"\p{Lu}", r"\p{Ll}", r"\p{M}", r"\p{N}", r"\p{P}", r"\p{S}",
                  "NFC changes it", "NFC puts U+0334 before it"]


def characters():
    scalars = [c for c in range(0x110000) if not 0xd800 <= c <= 0xdfff]
    everything, bits = "".join(map(chr, scalars)), [0] * len(scalars)
    runs = [o for _, o in pre_tokenizers.Digits(individual_digits=False).pre_tokenize_str(everything)]
    for begin, end in runs[1::2]:  # runs of other characters and of numbers take turns
        bits[begin:end] = [1] * (end - begin)
    tok = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(False, use_regex=False)
    tok.add_tokens([AddedToken("<w>", single_word=True), AddedToken("<r>", rstrip=True)])
    single, strips = tok.token_to_id("<w>"), tok.token_to_id("<r>")
    nfc = normalizers.NFC()
    for i, c in enumerate(scalars):
        one = chr(c)
        if single not in tok.encode(f"<w>{one}").ids:
            bits[i] |= 2
        if len(tok.encode(f"<r>{one}").ids) == 1:
            bits[i] |= 4
        if nfc.normalize_str(one) != one:
            bits[i] |= 1 << 12
        elif nfc.normalize_str(f"{one}\u0334") == f"\u0334{one}" and c != 0x334:
            bits[i] |= 1 << 13
    for bit, pattern in enumerate(CHARACTER_BITS):
        if pattern.startswith("\\"):
            for _, (begin, end) in pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(everything):
                for i in range(begin, end):
                    bits[i] |= 1 << bit
    runs = [(c, b) for c, b, last in zip(scalars, bits, [None] + bits) if b != last]
    (OUT / "characters.bin").write_bytes(b"STRCHARS" + b"".join(struct.pack("<IH", c, b) for c, b in runs))
    print(len(runs), "runs")


def write(name, data, spelling):
    merges = data["model"]["merges"]
    if spelling == "strings":
        data["model"]["merges"] = [" ".join(merge) for merge in merges]
    (OUT / f"{name}.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")


def save():
    OUT.mkdir(exist_ok=True)
    for number, (name, tok) in enumerate(build().items()):
        data = adjusted(name, tok.to_str())
        text = json.dumps(data)
        added = [token["content"] for token in data["added_tokens"]]
        texts = texts_of(random.Random(1000 + number), 360, added)
        (OUT / f"{name}.bin").write_bytes(encode_cases(text, texts))
        write(name, data, "strings" if name in ("gpt2", "llama3") else "pairs")
        print(name, len(data["model"]["vocab"]), "tokens", (OUT / f"{name}.json").stat().st_size, (OUT / f"{name}.bin").stat().st_size)


def smollm2_of(path):
    """The demo model's tokenizer, put together from its file: transformers' own conversion leaves out the digits."""
    import gguf
    fields = gguf.GGUFReader(path).fields
    tokens, merges, types = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges", "token_type"))
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    tok = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[tuple(merge.split(" ")) for merge in merges]))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([special(token) for token, kind in zip(tokens, types) if kind == 3])
    return tok


def smollm2(path):
    tok = smollm2_of(path)
    added = [token.content for token in tok.get_added_tokens_decoder().values()]
    (OUT / "smollm2.bin").write_bytes(encode_cases(tok.to_str(), texts_of(random.Random(7), 300, added)))


def fuzz(path, n, seed):
    text = pathlib.Path(path).read_text()
    added = [token["content"] for token in json.loads(text)["added_tokens"]]
    sys.stdout.buffer.write(encode_cases(text, texts_of(random.Random(seed), n, added)))


def main():
    if tokenizers.__version__ != PINNED:
        raise SystemExit(f"tokenizers {tokenizers.__version__} is installed, the references are made with {PINNED}")
    if len(sys.argv) == 5 and sys.argv[1] == "fuzz":
        fuzz(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif len(sys.argv) == 3 and sys.argv[1] == "smollm2":
        smollm2(sys.argv[2])
    elif sys.argv[1:] == ["characters"]:
        characters()
    elif len(sys.argv) == 1:
        save()
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()

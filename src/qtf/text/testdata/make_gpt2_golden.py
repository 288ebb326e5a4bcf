#!/usr/bin/env python3
"""Writes gpt2_golden.json: texts and their GPT-2 token ids, from an encoder that shares nothing with ours.

Needs only the standard library: words are split by hand with unicodedata's categories instead of a regular
expression, and pairs are merged by scanning, as in the paper.

    make_gpt2_golden.py FOLDER > gpt2_golden.json     # FOLDER holds encoder.json and vocab.bpe
"""
import json
import pathlib
import sys
import unicodedata

# Unicode's White_Space property (PropList.txt).
SPACE = set("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {chr(c) for c in range(0x2000, 0x200B)}
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def kind(c):
    if c in SPACE:
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(c)[0], "other")


def run_end(text, i):
    """The end of the characters from i on that are of text[i]'s kind."""
    k = kind(text[i])
    while i < len(text) and kind(text[i]) == k:
        i += 1
    return i


def word_end(text, i):
    for contraction in CONTRACTIONS:
        if text.startswith(contraction, i):
            return i + len(contraction)
    if kind(text[i]) != "space":
        return run_end(text, i)
    if text[i] == " " and i + 1 < len(text) and kind(text[i + 1]) != "space":
        return run_end(text, i + 1)
    end = run_end(text, i)
    if end < len(text) and end - i > 1:
        end -= 1  # the last space belongs to what follows
    return end


def byte_map():
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(hidden)}


def merge(symbols, ranks):
    while len(symbols) > 1:
        best = min(zip(symbols, symbols[1:]), key=lambda pair: ranks.get(pair, float("inf")))
        if best not in ranks:
            break
        merged, i = [], 0
        while i < len(symbols):
            if tuple(symbols[i:i + 2]) == best:
                merged.append(symbols[i] + symbols[i + 1])
                i += 2
            else:
                merged.append(symbols[i])
                i += 1
        symbols = merged
    return symbols


TEXTS = [
    "", " ", "  ", "\n", "\n\n", " \n", "\n ", "\t", "a", " a", "  a", "   a", "a ", "a  ", "a\n", "a\n\nb", "a \n b",
    "a\r\nb", "\n\n\n   x", "x\t\ty", "Hello world", "Hello, my dog is cute", "hello world!!!", "I'm you're we've he'll she'd it's don't",
    "I'M YOU'RE IT'S", "''s '' 's's", "don’t “quote” — dash…", "1234567890 12,345.67 3½ ² ① Ⅷ ٣٤٥ 一二三",
    "Zürich Ünïcödé naïve café cafe\u0301 e\u0301", "Ελληνικά русский עברית العربية हिन्दी ไทย 中文字符 日本語テキスト 한국어",
    "😀😃 👩‍👩‍👧‍👦 🇨🇭 👍🏽", "a\u00a0b\u2003c\u3000d\u200be\u2028f\u2029g\u0085h", "\u180e \u180ea \u1680x", "\x1c\x1d\x1e\x1f a\x1cb",
    "\x00\x01\x7f", "a\x00b", "<|endoftext|> and <|endoftext|>", "<unk> <s> </s> <0x41>", "\u2581\u2581under", "_snake_case CamelCase kebab-case",
    "for (int i = 0; i < n; ++i) {\n    sum += x[i];\n}\n", "http://example.com/?q=a+b&c=%20#frag", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababab", "=" * 70, "-" * 33 + " " * 17 + "." * 9, "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "The quick brown fox jumps over the lazy dog.\n\nThe  quick   brown\tfox.\n", " = Valkyria Chronicles III = \n \n Senjō no Valkyria 3 : <unk> Chronicles ( Japanese : 戦場のヴァルキュリア3 )",
    "\ufeffBOM", "\ufffd\ufffd", "\U0001d49c\U0001d4b7 \U00010330\U00010331 \U0001f9ff \U0010ffff", "ﬁ ﬂ ǅ ʰ ª º µ", "x" * 300 + " " + "é" * 100,
]


def main():
    folder = pathlib.Path(sys.argv[1])
    ids = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:]
    ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(lines) if line}
    bytes_to_text = byte_map()
    rows = []
    for text in TEXTS:
        row, i = [], 0
        while i < len(text):
            end = word_end(text, i)
            row += [ids[s] for s in merge([bytes_to_text[b] for b in text[i:end].encode()], ranks)]
            i = end
        rows.append(json.dumps({"text": text, "ids": row}))
    print("[\n" + ",\n".join(rows) + "\n]")


main()

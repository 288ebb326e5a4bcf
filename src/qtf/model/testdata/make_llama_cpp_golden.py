#!/usr/bin/python3
"""Exports the golden models to GGUF, lets llama.cpp continue a prompt greedily, and writes llama_cpp.json: each
file's SHA-256 and the text. The test holds that qtf writes the same bytes and generates the same text.

  make_llama_cpp_golden.py --qtf PATH --llama-simple PATH

llama-simple is an example program of llama.cpp (github.com/ggml-org/llama.cpp, last made with its commit c392e5094):
cmake --build build --target llama-simple
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = 16
CASES = [(model, prompt, kind) for model, prompt in (("hf_llama_shards", "the cat and"), ("hf_gpt2", "the cat and"))
         for kind in ("f32", "f16", "q8_0")]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout.decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qtf", required=True)
    parser.add_argument("--llama-simple", required=True)
    options = parser.parse_args()
    golden = []
    with tempfile.TemporaryDirectory() as folder:
        for model, prompt, kind in CASES:
            file = pathlib.Path(folder) / f"{model}-{kind}.gguf"
            run(options.qtf, "convert", str(HERE / model), str(file), "--type", kind)
            printed = run(options.llama_simple, "-m", str(file), "-n", str(TOKENS), prompt)
            text = printed[printed.index(prompt) + len(prompt):].removesuffix("\n")
            golden.append({"model": model, "type": kind, "prompt": prompt, "tokens": TOKENS, "text": text,
                           "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    (HERE / "llama_cpp.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Time and memory of compressing a model of 10 M parameters, training-free, against what is asked of them.

  bench/compress/cost.py [--qtf build/release/bin/qtf] [--text FILE] [--ratio 2] [--threads N] [--json figures.json]

The model is preset `medium` with a vocabulary of 4,096 (10.3 M parameters), trained for one step: nearly random weights,
which cost what trained ones do. Everything counts that `qtf compress` does, its figures before and after included. Asked:
less than 60 s, and at its peak less than 3 times the model's size plus 256 MB. Exits 1 where a line is missed; the time is
the machine's, so only a quiet one's counts.
"""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from where import ROOT, measured_at

SECONDS = 60
SPARE_BYTES = 256 * 10**6
TEXT_BYTES = 1_500_000  # of the text: enough for the tokenizer and for 16,384 tokens spread over it


def call(*words):
    result = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{result.stderr.strip()}")
    return result.stdout


def measure(args, folder):
    text = folder / "text.txt"
    text.write_text(pathlib.Path(args.text).read_bytes()[:TEXT_BYTES].decode(errors="ignore"))
    valid = folder / "valid.txt"
    valid.write_text(text.read_text()[:2000])
    call(args.qtf, "train", "--train", text, "--valid", valid, "--preset", "medium", "--vocabulary", 4096, "--steps", 1,
         "--batch", 1, "--quiet", "--out", folder / "model")
    size = (folder / "model" / "model.safetensors").stat().st_size
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    report = json.loads(call(args.qtf, "compress", folder / "model", "--out", folder / "small", "--calibrate", text,
                             "--ratio", args.ratio, "--threads", args.threads, "--quiet", "--json"))
    seconds = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"dense_parameters": report["dense_parameters"], "parameters": report["parameters"], "model_bytes": size,
            "seconds": seconds, "processor_seconds": processor, "threads": args.threads,
            "peak_memory": report["peak_memory"], "asked_seconds": SECONDS, "asked_memory": 3 * size + SPARE_BYTES}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qtf", default=os.path.join(ROOT, "build", "release", "bin", "qtf"))
    parser.add_argument("--text", default=os.path.join(ROOT, os.pardir, "shared", "data", "wikitext-2", "wiki.train.tokens"))
    parser.add_argument("--ratio", type=float, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(args, pathlib.Path(folder))
    print(f"{figures['dense_parameters']} parameters to {figures['parameters']} on {args.threads} threads")
    print(f"{figures['seconds']:8.1f} s, asked less than {SECONDS}; {figures['processor_seconds']:.1f} s of processor time")
    print(f"{figures['peak_memory'] / 1e6:8.1f} MB at the peak, asked less than {figures['asked_memory'] / 1e6:.1f}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(measured_at(**figures), indent=1) + "\n")
    sys.exit(figures["seconds"] >= SECONDS or figures["peak_memory"] >= figures["asked_memory"])


if __name__ == "__main__":
    main()

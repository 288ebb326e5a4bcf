#!/usr/bin/python3
"""The edge library beside `qtf generate` on one thread: what memory each needs, and their speed.

Each model is converted, also quantized. Both sides write the same tokens greedily, and their texts are compared first;
then they alternate, each in its own process. Memory is the peak of the whole process: program, weights and all.
  bench/edge/compare.py models/wikitext2-dense models/wikitext2-nested --edge build/edge/qtf-edge-run
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from where import ROOT, measured_at

PROMPT, MIB = "The city of", 1 << 20


def parse():
    parser = argparse.ArgumentParser(description="Compares the edge library with qtf generate")
    parser.add_argument("models", nargs="+", help="model folders")
    parser.add_argument("--dtypes", default="f32,int8,int4", help="of the weights, with commas (%(default)s)")
    parser.add_argument("--qtf", default=os.path.join(ROOT, "build", "release", "bin", "qtf"))
    parser.add_argument("--edge", default=os.path.join(ROOT, "build", "edge", "qtf-edge-run"))
    parser.add_argument("--tokens", type=int, default=110, help="to write (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="runs a side (%(default)s)")
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    return parser.parse_args()


def run(*words):
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace")
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done


def number(pattern, text):
    return float(re.search(pattern, text).group(1).replace(",", ""))


def edge_run(flags, path):
    done = run(flags.edge, path, PROMPT, flags.tokens, 0, "fixed", 0)
    return {"text": done.stdout.rstrip("\n").removeprefix(PROMPT),
            "decode": number(r"text: \d+ tokens, (\d+) tokens/s", done.stderr),
            "arena": number(r"arena needs (\d+)", done.stderr),
            "memory": number(r"peak memory (\d+)", done.stderr) * 1024}


def qtf_run(flags, model):
    done = run("/usr/bin/time", "-f", "peak %M KiB", flags.qtf, "generate", model, "--prompt", PROMPT, "--tokens",
               flags.tokens, "--threads", 1, "--temperature", 0, "--stats")
    return {"text": done.stdout.rstrip("\n").removeprefix(PROMPT),
            "decode": number(r"tokens at ([\d,]+) tokens/s", done.stderr),
            "memory": number(r"peak (\d+) KiB", done.stderr) * 1024}


def compare(flags, model, dtype, folder):
    name = f"{os.path.basename(os.path.normpath(model))} {dtype}"
    if dtype != "f32":
        quantized = os.path.join(folder, name.replace(" ", "-"))
        run(flags.qtf, "quantize", model, "--dtype", dtype, "--out", quantized)
        model = quantized
    path = os.path.join(folder, name.replace(" ", "-") + ".edge")
    run(flags.qtf, "convert", model, path)
    edge, qtf = edge_run(flags, path), qtf_run(flags, model)
    if edge["text"] != qtf["text"]:
        sys.exit(f"{name}: the texts differ\n{edge['text']!r}\n{qtf['text']!r}")
    speeds = {"edge": [], "qtf": []}
    for _ in range(flags.rounds):
        speeds["edge"].append(edge_run(flags, path)["decode"])
        speeds["qtf"].append(qtf_run(flags, model)["decode"])
    ratio = statistics.median(a / b for a, b in zip(speeds["edge"], speeds["qtf"]))
    print(f"| {name} | {os.path.getsize(path) / MIB:.2f} | {edge['arena'] / 1024:.0f} | {edge['memory'] / MIB:.2f} "
          f"| {qtf['memory'] / MIB:.1f} | {statistics.median(speeds['edge']):.0f} | {ratio:.2f} |", flush=True)
    return {"model": name, "memory": {"edge": edge["memory"], "qtf": qtf["memory"]}, "tokens_per_second": speeds}


def main():
    flags = parse()
    print("| model | file, MiB | arena, KiB | peak memory, MiB | qtf's | decode, tokens/s | × qtf's, 1 thread |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        figures = [compare(flags, model, dtype, folder) for model in flags.models for dtype in flags.dtypes.split(",")]
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump({"where": measured_at(**vars(flags)), "figures": figures}, file, indent=1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compress a model by every method to the same sizes and compare what they lose.

  bench/compress/methods.py --qtf build/release/bin/qtf --model DIR --calibrate FILE --test FILE --out FOLDER
      [--ratios 1.5,2,3] [--methods chain,whitened-svd,...] [--separator STR]

Every method gets the same calibration text and the same budget of stored parameters; perplexity, KL to the original and the share of
equal top tokens are measured on --test by `qtf eval`. Writes FOLDER/methods.json and FOLDER/methods.svg (perplexity
against parameters) and prints a table. Nothing is healed.
"""
import argparse
import json
import math
import pathlib
import platform
import shutil
import subprocess
import sys

METHODS = "chain,whitened-svd,svd,btt,mpo"
COLORS = ["#0b6bcb", "#c4680b", "#59636e", "#2a8a4a", "#a03a8c"]


def call(*words):
    result = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{result.stderr}")
    return json.loads(result.stdout)


def evaluate(args, model):
    words = [args.qtf, "eval", model, "--text", args.test, "--against", args.model, "--json"]
    return call(*words, *(["--separator", args.separator] if args.separator else []))


def compress(args, method, ratio):
    out = args.out / f"{method}-{ratio:g}"
    shutil.rmtree(out, ignore_errors=True)
    words = [args.qtf, "compress", args.model, "--out", out, "--calibrate", args.calibrate, "--method", method,
             "--ratio", ratio, "--quiet", "--json"]
    report = call(*words, *(["--separator", args.separator] if args.separator else []))
    measured = evaluate(args, out)
    return {"method": method, "ratio": ratio, "parameters": report["parameters"], "seconds": report["seconds"],
            "macs_per_token": report["macs_per_token"], "peak_memory": report["peak_memory"],
            "perplexity": measured["perplexity"], "stderr": measured["stderr"],
            "kl_divergence": measured["kl_divergence"], "same_top": measured["same_top"]}


def print_table(dense, rows):
    print(f"{'method':<14}{'ratio':>6}{'parameters':>12}{'perplexity':>12}{'KL':>9}{'same top':>10}{'seconds':>9}")
    print(f"{'dense':<14}{1:>6}{dense['parameters']:>12}{dense['perplexity']:>12.3f}{0:>9.4f}{'100.0 %':>10}")
    for r in rows:
        top = f"{100 * r['same_top']:.1f} %"
        print(f"{r['method']:<14}{r['ratio']:>6g}{r['parameters']:>12}{r['perplexity']:>12.3f}"
              f"{r['kl_divergence']:>9.4f}{top:>10}{r['seconds']:>9.1f}")


def svg(dense, rows):
    """Perplexity (log scale) against parameters, a line a method."""
    width, height, left, bottom = 640, 380, 64, 44
    most = max(r["parameters"] for r in rows + [dense])
    logs = [math.log(r["perplexity"]) for r in rows + [dense]]
    low, high = min(logs) - 0.03, max(logs) + 0.03
    x = lambda p: left + (width - left - 16) * p / most
    y = lambda ppl: 12 + (height - bottom - 12) * (high - math.log(ppl)) / (high - low)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="#fff"/>',
             f'<path d="M{left} {y(dense["perplexity"]):.1f}H{width - 16}" stroke="#bbb" stroke-dasharray="4 4"/>']
    for i in range(6):
        ppl = math.exp(low + (high - low) * i / 5)
        parts.append(f'<text x="{left - 8}" y="{y(ppl) + 4:.1f}" text-anchor="end" fill="#59636e">{ppl:.3g}</text>')
        p = most * i / 5
        parts.append(f'<text x="{x(p):.1f}" y="{height - 24}" text-anchor="middle" fill="#59636e">{p / 1e3:.0f} k</text>')
    parts.append(f'<text x="{width - 16}" y="{height - 6}" text-anchor="end" fill="#59636e">parameters (perplexity, log scale)</text>')
    for i, method in enumerate(dict.fromkeys(r["method"] for r in rows)):
        color = COLORS[i % len(COLORS)]
        points = sorted((r["parameters"], r["perplexity"]) for r in rows if r["method"] == method)
        path = " ".join(f"{'L' if k else 'M'}{x(a):.1f} {y(b):.1f}" for k, (a, b) in enumerate(points))
        parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" fill="{color}"/>' for a, b in points]
        parts.append(f'<text x="{width - 16}" y="{28 + 16 * i}" text-anchor="end" fill="{color}">{method}</text>')
    return "\n".join(parts + ["</svg>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qtf", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--calibrate", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--ratios", default="1.5,2,3")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--separator")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    dense = {**evaluate(args, args.model), **{"parameters": call(args.qtf, "info", args.model, "--json")["parameters"]}}
    rows = [compress(args, method, float(ratio)) for ratio in args.ratios.split(",") for method in args.methods.split(",")]
    print_table(dense, rows)
    machine = {"processor": platform.processor() or platform.machine(), "system": platform.platform()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            cwd=pathlib.Path(__file__).parent).stdout.strip()
    result = {"machine": machine, "commit": commit, "dense": dense, "rows": rows}
    (args.out / "methods.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "methods.svg").write_text(svg(dense, rows))


if __name__ == "__main__":
    main()

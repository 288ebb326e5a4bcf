#!/usr/bin/env python3
"""Compress a model by every method to the same sizes and compare what they lose.

  bench/compress/methods.py --qtf build/release/bin/qtf --model DIR --calibrate FILE --test FILE --out FOLDER
      [--ratios 1.5,2,3] [--methods chain,whitened-svd,...] [--separator STR]
      [--heal FILE --heal-minutes M [--heal-methods chain,whitened-svd]] [--bytes N]

Every method gets the same calibration text and the same budget of stored parameters; perplexity, KL to the original and
the share of equal top tokens are measured on --test (its first N bytes) by `qtf eval`. With --heal, the methods of
--heal-methods are also healed, each size for the same minutes. Writes FOLDER/methods.json and FOLDER/methods.svg
(perplexity against parameters) and prints a table. `--draw FOLDER/methods.json` only draws again.
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
COLORS = {"chain": "#0969da", "whitened-svd": "#d1570a", "svd": "#6e7781", "btt": "#1a7f37", "mpo": "#8250df"}


def call(*words):
    result = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{result.stderr}")
    return json.loads(result.stdout)


def separator(args):
    return ["--separator", args.separator] if args.separator else []


def evaluate(args, model):
    return call(args.qtf, "eval", model, "--text", args.test, "--against", args.model, "--json", *separator(args))


def compress(args, method, ratio, healed):
    out = args.out / f"{method}-{ratio:g}{'-healed' if healed else ''}"
    shutil.rmtree(out, ignore_errors=True)
    heal = ["--heal", args.heal, "--heal-minutes", args.heal_minutes] if healed else []
    report = call(args.qtf, "compress", args.model, "--out", out, "--calibrate", args.calibrate, "--method", method,
                  "--ratio", ratio, "--quiet", "--json", *heal, *separator(args))
    measured = evaluate(args, out)
    return {"method": method, "ratio": ratio, "healed": healed, "parameters": report["parameters"],
            "seconds": report["seconds"], "macs_per_token": report["macs_per_token"],
            "peak_memory": report["peak_memory"], "perplexity": measured["perplexity"], "stderr": measured["stderr"],
            "kl_divergence": measured["kl_divergence"], "same_top": measured["same_top"]}


def print_table(dense, rows):
    print(f"{'method':<22}{'ratio':>6}{'parameters':>12}{'perplexity':>12}{'KL':>9}{'same top':>10}{'seconds':>9}")
    print(f"{'dense':<22}{1:>6}{dense['parameters']:>12}{dense['perplexity']:>12.3f}{0:>9.4f}{'100.0 %':>10}")
    for r in rows:
        top = f"{100 * r['same_top']:.1f} %"
        name = r["method"] + (" healed" if r["healed"] else "")
        print(f"{name:<22}{r['ratio']:>6g}{r['parameters']:>12}{r['perplexity']:>12.3f}"
              f"{r['kl_divergence']:>9.4f}{top:>10}{r['seconds']:>9.1f}")


def ticks(low, high, count):
    """Round numbers (1, 2, 3 or 5 times a power of ten) in [low, high], about `count`, for a log scale."""
    steps = [m * 10 ** e for e in range(-2, 7) for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    inside = [s for s in steps if low <= s <= high]
    return inside[:: max(1, round(len(inside) / count))]


def spread(labels, gap, bottom):
    """Moves (y, …) labels apart to at least `gap`, none below `bottom`."""
    placed = [list(label) for label in sorted(labels)]
    for above, below in zip(placed, placed[1:]):
        below[0] = max(below[0], above[0] + gap)
    limit = bottom
    for label in reversed(placed):
        label[0] = min(label[0], limit)
        limit = label[0] - gap
    return placed


def svg(dense, rows, title):
    """Perplexity (log scale) against parameters, the original on the left: a line a method, healed ones whole,
    training-free ones dashed. Labels stand where the lines end, which is where they differ."""
    width, height, left, right, top, bottom = 760, 440, 64, 206, 68, 56
    logs = [math.log(r["perplexity"]) for r in rows + [dense]]
    pad = 0.06 * (max(logs) - min(logs))
    low, high = min(logs) - pad, max(logs) + pad
    smallest = math.log(dense["parameters"] / min(r["parameters"] for r in rows)) * 1.02
    x = lambda p: left + 12 + (width - left - right - 12) * math.log(dense["parameters"] / p) / smallest
    y = lambda ppl: top + (height - bottom - top) * (high - math.log(ppl)) / (high - low)
    both = any(r["healed"] for r in rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             'font-family="system-ui, -apple-system, Segoe UI, sans-serif" font-size="13">',
             f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10" fill="#fff" stroke="#d1d9e0"/>',
             f'<text x="24" y="30" font-size="16" font-weight="600" fill="#1f2328">{title}</text>',
             '<text x="24" y="49" fill="#59636e">perplexity (log scale) against stored parameters; '
             + ('whole lines are healed, dashed ones training-free' if both else 'training-free') + '</text>']
    for ppl in ticks(math.exp(low), math.exp(high), 6):
        parts.append(f'<path d="M{left} {y(ppl):.1f}H{width - right}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{left - 10}" y="{y(ppl) + 4:.1f}" text-anchor="end" fill="#59636e">{ppl:g}</text>')
    for ratio in sorted({r["ratio"] for r in rows} | {1}):
        p = dense["parameters"] / ratio
        parts.append(f'<path d="M{x(p):.1f} {top}V{height - bottom}" stroke="#f3f5f7"/>')
        size = f"{p / 1e6:.2f} M" if p >= 1e6 else f"{p / 1e3:.0f} k"
        parts.append(f'<text x="{x(p):.1f}" y="{height - bottom + 20}" text-anchor="middle" fill="#59636e">{size}</text>')
        parts.append(f'<text x="{x(p):.1f}" y="{height - bottom + 37}" text-anchor="middle" fill="#6e7781" '
                     f'font-size="11">{"dense" if ratio == 1 else f"{ratio:g}x smaller"}</text>')
    start = (x(dense["parameters"]), y(dense["perplexity"]))
    parts.append(f'<path d="M{start[0]:.1f} {start[1]:.1f}H{width - right}" stroke="#1f2328" stroke-opacity=".45" '
                 'stroke-dasharray="2 4"/>')
    labels = [(start[1], f'dense {dense["perplexity"]:.1f}', "#1f2328")]
    for method, healed in dict.fromkeys((r["method"], r["healed"]) for r in rows):
        color = COLORS.get(method, "#59636e")
        points = sorted(((r["parameters"], r["perplexity"]) for r in rows
                         if (r["method"], r["healed"]) == (method, healed)), reverse=True)
        dash = ' stroke-dasharray="6 5" stroke-opacity=".75"' if both and not healed else ""
        path = "".join(f"L{x(a):.1f} {y(b):.1f}" for a, b in points)
        parts.append(f'<path d="M{start[0]:.1f} {start[1]:.1f}{path}" fill="none" stroke="{color}" stroke-width="2.25" '
                     f'stroke-linejoin="round"{dash}/>')
        for a, b in points:
            parts.append(f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="4" fill="{"#fff" if dash else color}" '
                         f'stroke="{color}" stroke-width="2"><title>{method}: {a} parameters, perplexity {b:.2f}</title></circle>')
        labels.append((y(points[-1][1]), f"{method}{', healed' if healed else ''} {points[-1][1]:.1f}", color))
    parts.append(f'<circle cx="{start[0]:.1f}" cy="{start[1]:.1f}" r="4.5" fill="#1f2328"/>')
    for at, text, color in spread(labels, 18, height - bottom):
        parts.append(f'<text x="{width - right + 12}" y="{at + 4:.1f}" fill="{color}" font-weight="500">{text}</text>')
    return "\n".join(parts + ["</svg>\n"])


def measure(args):
    args.out.mkdir(parents=True, exist_ok=True)
    if args.bytes:
        text = pathlib.Path(args.test).read_bytes()[:args.bytes].decode(errors="ignore")
        args.test = args.out / "test.txt"
        args.test.write_text(text)
    dense = {**evaluate(args, args.model), "parameters": call(args.qtf, "info", args.model, "--json")["parameters"]}
    ratios = [float(r) for r in args.ratios.split(",")]
    rows = [compress(args, method, ratio, False) for ratio in ratios for method in args.methods.split(",")]
    if args.heal:
        rows += [compress(args, method, ratio, True) for ratio in ratios for method in args.heal_methods.split(",")]
    machine = {"processor": platform.processor() or platform.machine(), "system": platform.platform()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            cwd=pathlib.Path(__file__).parent).stdout.strip()
    result = {"machine": machine, "commit": commit, "title": args.title, "heal_minutes": args.heal_minutes,
              "dense": dense, "rows": rows}
    (args.out / "methods.json").write_text(json.dumps(result, indent=1) + "\n")
    return result, args.out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("qtf", "model", "calibrate", "test"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--ratios", default="1.5,2,3")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--separator")
    parser.add_argument("--heal")
    parser.add_argument("--heal-minutes", type=float, default=0)
    parser.add_argument("--heal-methods", default="chain,whitened-svd")
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--title", default="What compression loses")
    parser.add_argument("--draw", type=pathlib.Path)
    args = parser.parse_args()
    if args.draw:
        result, out = json.loads(args.draw.read_text()), args.draw.parent
    else:
        missing = [f"--{n}" for n in ("qtf", "model", "calibrate", "test", "out") if not getattr(args, n)]
        if missing or bool(args.heal) != (args.heal_minutes > 0):
            parser.error(f"missing: {', '.join(missing)}" if missing else "--heal and --heal-minutes belong together")
        result, out = measure(args)
    print_table(result["dense"], result["rows"])
    (out / "methods.svg").write_text(svg(result["dense"], result["rows"], result["title"]))


if __name__ == "__main__":
    main()

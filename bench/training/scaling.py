"""The scaling rows of compare.py: our speed of training against each size alone, as a table and, with --svg, a plot.

GFLOP/s is arithmetic by formula (train/step.h, training_flops): where it stays level, time grows as the work does.
"""
import math
import tempfile

import sides

BASE = {"width": 256, "layers": 4, "context": 128, "batch": 16, "vocab": 4096, "threads": 2}
AXES = {
    "width": [64, 128, 256, 512],
    "context": [32, 64, 128, 256, 512, 1024],
    "batch": [2, 4, 8, 16, 32, 64],
    "vocab": [512, 1024, 4096, 16384, 65536],
    "threads": [1, 2],
}
NAMES = {"width": "D, width", "context": "T, context", "batch": "B, sequences a step", "vocab": "V, vocabulary",
         "threads": "threads"}
STEPS = 5


def run_point(flags, python, head_width, axis, value):
    sizes = {**BASE, axis: value}
    threads = sizes.pop("threads")
    with tempfile.TemporaryDirectory(prefix="qtf-scaling-") as folder:
        sides.make_folder(python, folder, heads=max(1, sizes["width"] // head_width), steps=STEPS, **sizes)
        words = sides.side_flags(folder, STEPS, sizes["batch"], sizes["context"], threads)
        run = sides.run_qtf(flags.qtf, words)
    return {"axis": axis, "value": value, "tokens_per_second": run["tokens_per_second"],
            "flops_per_second": run["tokens_per_second"] * run["flops_per_token"], "peak_share": run["peak_share"],
            "parameters": run["parameters"], "peak_rss_mb": run["peak_rss_mb"]}


def measure(flags, python, head_width):
    rows = []
    for axis, values in AXES.items():
        for value in values:
            rows.append(run_point(flags, python, head_width, axis, value))
            print(f"{axis} {value}: {rows[-1]['tokens_per_second']:.0f} tokens/s", flush=True)
    return rows


def print_table(rows):
    print(f"\nAround {', '.join(f'{key} {value}' for key, value in BASE.items())}, {STEPS} steps each.\n\n"
          "| | | M parameters | tokens/s | GFLOP/s | of peak | MB |\n|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['axis']} | {row['value']} | {row['parameters'] / 1e6:.2f} | {row['tokens_per_second']:.0f} "
              f"| {row['flops_per_second'] / 1e9:.0f} | {100 * row['peak_share']:.0f} % | {row['peak_rss_mb']:.0f} |")


# ---- The plot: a panel an axis, both scales logarithmic -------------------------------------------------------

PANEL, MARGIN, GAP = (200, 170), 46, 26


def panel(axis, points, left, low, high):
    """One panel's SVG; low and high: powers of ten between which tokens/s lie."""
    width, height = PANEL
    first, last = math.log2(points[0][0]), math.log2(points[-1][0])

    def x(value):
        return left + (math.log2(value) - first) / (last - first) * width

    def y(speed):
        return MARGIN + (high - math.log10(speed)) / (high - low) * height

    parts = [f'<rect x="{left}" y="{MARGIN}" width="{width}" height="{height}" class="frame"/>',
             f'<text x="{left + width / 2}" y="{MARGIN - 10}" class="title">{NAMES[axis]}</text>']
    for power in range(low, high + 1):
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y(10 ** power):.1f}" y2="{y(10 ** power):.1f}" '
                     'class="grid"/>')
        parts.append(f'<text x="{left - 5}" y="{y(10 ** power) + 4:.1f}" class="tick right">'
                     f'{10 ** power // 1000} k</text>')
    for value, _, _ in points:
        parts.append(f'<text x="{x(value):.1f}" y="{MARGIN + height + 15}" class="tick">{value}</text>')
    for index, kind in ((1, "measured"), (2, "arithmetic")):
        line = " ".join(f"{x(point[0]):.1f},{y(point[index]):.1f}" for point in points)
        parts.append(f'<polyline points="{line}" class="{kind}"/>')
    parts += [f'<circle cx="{x(value):.1f}" cy="{y(speed):.1f}" r="3"/>' for value, speed, _ in points]
    return "\n".join(parts)


def svg(rows):
    """tokens/s by each axis; dashed: what the arithmetic alone would give from the base's speed."""
    step = PANEL[0] + MARGIN + GAP
    base = next(row for row in rows if row["axis"] == "width" and row["value"] == BASE["width"])
    panels, speeds = [], [row["tokens_per_second"] for row in rows]
    for axis in AXES:
        points = []
        for row in rows:
            if row["axis"] != axis:
                continue
            flops = row["flops_per_second"] / row["tokens_per_second"]
            workers = row["value"] / BASE["threads"] if axis == "threads" else 1
            points.append((row["value"], row["tokens_per_second"], base["flops_per_second"] * workers / flops))
            speeds.append(points[-1][2])
        panels.append((axis, points))
    low, high = math.floor(math.log10(min(speeds))), math.ceil(math.log10(max(speeds)))
    body = "\n".join(panel(axis, points, MARGIN + i * step, low, high) for i, (axis, points) in enumerate(panels))
    width, height = MARGIN + len(panels) * step, PANEL[1] + 2 * MARGIN + 14
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">
<style>
.frame, .grid {{ fill: none; stroke: #bbb; stroke-width: 0.7 }}
.title {{ font-size: 13px; text-anchor: middle }} .tick {{ font-size: 10px; text-anchor: middle; fill: #555 }}
.right {{ text-anchor: end }} circle {{ fill: #1667b7 }}
.measured {{ fill: none; stroke: #1667b7; stroke-width: 1.8 }}
.arithmetic {{ fill: none; stroke: #777; stroke-dasharray: 4 3 }}
</style>
<rect width="100%" height="100%" fill="white"/>
{body}
<text x="{MARGIN}" y="{height - 8}" class="tick" style="text-anchor: start">tokens/s of training; dashed: the base
model's speed by arithmetic alone</text>
</svg>
"""

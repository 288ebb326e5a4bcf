#!/usr/bin/python3
"""Rank policies beside fixed levels and random levels: loss and time.

Every signal is calibrated on --calibrate (a copy of the model, a signal each) and evaluated at the same mean ranks.
The losses are qtf eval's. As the mix that a signal reaches on another text differs a little from the one asked for, a
column has by how much the loss lies below the straight line between the two fixed levels beside the reached mean
rank. `random` and `spread` pick any tokens, at the slope of the signals and at the gate's.
Unless --no-times is given, every policy also passes the same tokens in one process, in turn with the others: prompts
of the context's length and token by token (rank_steps); the last columns then have the least loss of the fixed levels
that take no longer.
  bench/adaptive/compare.py --model models/wikitext2-nested --calibrate DATA/wiki.valid.tokens \
      --text DATA/wiki.test.tokens [--means 0.3,0.5,0.7] [--signals entropy,surprise,output,gate] [--no-times]
  bench/adaptive/compare.py --widths        # what halving the feed-forward's rank gives at D = 512, and what choosing costs
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from where import ROOT, measured_at

BIN = os.path.join(ROOT, "build", "release", "bin")


# Any tokens, with the slope that the signals have, and with the gate's: the mixes that they are compared at.
RANDOM = {"random": "0.1", "spread": "1"}


def parse():
    parser = argparse.ArgumentParser(description="Compares rank policies with fixed levels")
    parser.add_argument("--model", help="a calibrated model with nested levels")
    parser.add_argument("--text", help="text that the losses and times are measured on")
    parser.add_argument("--calibrate", help="text that each signal is calibrated on (without it: --text)")
    parser.add_argument("--signals", default="entropy,surprise,output,gate",
                        help="with commas; circuit too for a model with a quantum layer (%(default)s)")
    parser.add_argument("--alpha", help="slope of the ranks; without it each signal's usual one, and random's 0.1")
    parser.add_argument("--no-times", action="store_true", help="losses alone: any machine will do")
    parser.add_argument("--means", default="0.3,0.5,0.7", help="mean ranks, with commas (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of random levels (%(default)s)")
    parser.add_argument("--widths", action="store_true", help="time random weights of D = 512 instead")
    parser.add_argument("--threads", default="1", help="(%(default)s)")
    parser.add_argument("--repeat", default="9", help="rounds of the times (%(default)s)")
    parser.add_argument("--bin", default=BIN, help="folder of qtf and rank_steps (%(default)s)")
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    flags = parser.parse_args()
    if not flags.widths and not (flags.model and flags.text):
        parser.error("give --model and --text, or --widths")
    return flags


def call(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr.strip()}")
    return json.loads(result.stdout)


def times(flags, policies, *more):
    command = [os.path.join(flags.bin, "rank_steps"), "--threads", flags.threads, "--repeat", flags.repeat, *more]
    for policy in policies:
        command += ["--policy", policy]
    return call(command)


def relative(results, use):
    """Of each side: its time by the first side's of the same round, the median over rounds, and quartiles."""
    base = results[use][0]["seconds"]
    out = []
    for side in results[use]:
        pairs = [a / b for a, b in zip(side["seconds"], base)]
        quarters = statistics.quantiles(pairs, n=4)
        out.append((statistics.median(pairs), quarters[0], quarters[2]))
    return out


def calibrated_copies(flags, folder):
    """A copy of the model for each signal, calibrated for it."""
    copies = {}
    for signal in flags.signals.split(","):
        copies[signal] = os.path.join(folder, signal)
        shutil.copytree(flags.model, copies[signal])
        command = [os.path.join(flags.bin, "qtf"), "calibrate", copies[signal], "--text",
                   flags.calibrate or flags.text, "--signal", signal]
        if flags.alpha:
            command += ["--alpha", flags.alpha]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(command)}\n{result.stderr.strip()}")
    return copies


def loss(flags, copies, policy, seed=None):
    kind, _, number = policy.partition(":")
    words = ["--rank-policy", policy] if kind == "fixed" else ["--rank-policy", kind, "--mean-rank", number]
    if kind in RANDOM:
        words = ["--rank-policy", "random", "--mean-rank", number, "--alpha", flags.alpha or RANDOM[kind]]
    if seed:
        words += ["--rank-seed", str(seed)]
    model = copies.get(kind, flags.model)
    e = call([os.path.join(flags.bin, "qtf"), "eval", model, "--text", flags.text, "--json", *words])
    return {"loss": e["nats_per_token"], "stderr": e["stderr"], "mean_rank": e["ranks"]["mean_rank"]}


def levels_of(flags):
    return call([os.path.join(flags.bin, "qtf"), "info", flags.model, "--json"])["architecture"]["levels"]


def at_equal_time(rows, row, use):
    """The least loss of the fixed levels that take no longer than a row; None if all take longer."""
    return min((r["loss"] for r in rows if r["policy"].startswith("fixed:") and r[use] <= row[use]), default=None)


def line_between_levels(rows, mean):
    """The loss of mixing the two fixed levels beside a mean rank, by the straight line between them."""
    fixed = sorted((r["mean_rank"], r["loss"]) for r in rows if r["policy"].startswith("fixed:"))
    for (low, low_loss), (high, high_loss) in zip(fixed, fixed[1:]):
        if low <= mean <= high:
            return low_loss + (high_loss - low_loss) * (mean - low) / (high - low)
    return fixed[-1][1]


def measured_rows(flags, policies, folder):
    copies = calibrated_copies(flags, folder)
    rows = []
    for policy in policies:
        seeds = range(1, flags.seeds + 1) if policy.split(":")[0] in RANDOM else [None]
        measured = [loss(flags, copies, policy, seed) for seed in seeds]
        rows.append({"policy": policy, "loss": statistics.mean(m["loss"] for m in measured),
                     "stderr": measured[0]["stderr"],
                     "mean_rank": statistics.mean(m["mean_rank"] for m in measured),
                     "losses": [m["loss"] for m in measured]})
    for row in rows:
        row["below_line"] = line_between_levels(rows, row["mean_rank"]) - row["loss"]
    return rows


def add_times(flags, policies, rows):
    timed = [p.replace("spread:", "random:") for p in policies]
    results = times(flags, timed, "--model", flags.model, "--text", flags.text)
    prompt, decode = relative(results, "prompt"), relative(results, "decode")
    for i, row in enumerate(rows):
        row.update({"prompt": prompt[i][0], "decode": decode[i][0], "prompt_quartiles": prompt[i][1:],
                    "decode_quartiles": decode[i][1:]})
    return results


def compare(flags):
    levels = levels_of(flags)
    means = flags.means.split(",")
    policies = [f"fixed:{k}" for k in range(levels, 0, -1)]
    signals = flags.signals.split(",")
    chance = [kind for kind in RANDOM if kind == "random" or "gate" in signals]
    policies += [f"{kind}:{mean}" for mean in means for kind in (*signals, *chance)]
    with tempfile.TemporaryDirectory() as folder:
        rows = measured_rows(flags, policies, folder)
    results = None if flags.no_times else add_times(flags, policies, rows)
    full = rows[0]["loss"]
    heads = ["policy", "mean rank", "nats/token", "more than whole", "below the fixed levels' line"]
    if results:
        heads += ["prompt time", "decode time", "fixed at that prompt time", "at that decode time"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for row in rows:
        cells = [row["policy"], f"{row['mean_rank']:.3f}", f"{row['loss']:.4f} ± {row['stderr']:.4f}",
                 f"{100 * (row['loss'] / full - 1):+.2f} %", f"{row['below_line']:+.4f}"]
        if results:
            best = [at_equal_time(rows, row, use) for use in ("prompt", "decode")]
            cells += [f"{row['prompt']:.3f}", f"{row['decode']:.3f}"]
            cells += ["–" if b is None else f"{b:.4f}" for b in best]
        print("| " + " | ".join(cells) + " |")
    conclude(flags, rows, full, results)
    return {"rows": rows, "times": results}


def conclude(flags, rows, full, results):
    by = {row["policy"]: row for row in rows}
    gains = {}
    for row in rows:
        kind, _, mean = row["policy"].partition(":")
        if kind not in flags.signals.split(","):
            continue
        gain = row["below_line"] - by[("spread:" if kind == "gate" else "random:") + mean]["below_line"]
        gains.setdefault(kind, []).append(gain)
        print(f"{kind} at {mean}: {abs(gain):.4f} nats {'better' if gain > 0 else 'worse'} than random at the same mix",
              end="")
        for use in ("prompt", "decode") if results else ():
            best = at_equal_time(rows, row, use)
            if best is None:
                print(f"; in {use}, no fixed level is as fast", end="")
            else:
                word = "better" if row["loss"] < best else "worse"
                print(f"; in {use}, {abs(best - row['loss']):.4f} {word} than the best fixed level no slower", end="")
        print()
    best = max(gains, key=lambda kind: statistics.mean(gains[kind]))
    print(f"The best signal: {best}, {statistics.mean(gains[best]):.4f} nats better than random on average")
    if not results:
        return
    good = [r for r in rows if not r["policy"].startswith("fixed") and r["loss"] < 1.005 * full]
    for use in ("prompt", "decode"):
        saved = max((1 - r[use] for r in good), default=0)
        print(f"Less {use} time at under 0.5 % more loss than the whole: {100 * saved:.1f} % (aim 15 %): "
              f"{'met' if saved >= 0.15 else 'missed'}")


def part(side, name):
    """The seconds of a part of a pass: the median over rounds."""
    return statistics.median(side["parts"].get(name, [0]))


def widths(flags):
    """Ranks 92, 184, 276, 368: the mean of 184, half of the whole, is a third of the range."""
    third = "0.333333"
    results = times(flags, ["level:4", "fixed:4", "level:4", "level:2", f"random:{third}", f"entropy:{third}"])
    print("| policy | use | time of a pass | time of the feed-forward | its speed |\n|---|---|---|---|---|")
    for use in ("prompt", "decode"):
        whole = part(results[use][0], "feed-forward")
        for side, (ratio, low, high) in zip(results[use], relative(results, use)):
            ffn = part(side, "feed-forward") / whole
            print(f"| {side['policy']} | {use} | {ratio:.3f} ({low:.3f} to {high:.3f}) | {ffn:.3f} | {1 / ffn:.2f} |")
    for use in ("prompt", "decode"):
        _, policy, again = relative(results, use)[:3]
        choosing = part(results[use][1], "choice of ranks") / statistics.median(results[use][0]["seconds"])
        print(f"Entropy and choosing in {use}: {100 * (policy[0] - 1):+.2f} % of a pass (no policy twice: "
              f"{100 * (again[0] - 1):+.2f} %); choosing alone {100 * choosing:.2f} %")
    return results


def main():
    flags = parse()
    place = measured_at(threads=flags.threads)
    figures = widths(flags) if flags.widths else compare(flags)
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump({**place, **figures}, file, indent=1)


if __name__ == "__main__":
    main()

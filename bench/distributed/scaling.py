#!/usr/bin/python3
"""What several ranks bring on this machine, and what a model fitted to it predicts for more.

Sums over 2 and 4 ranks of several sizes are timed (sum_steps), and a ring's cost is fitted to them:
  seconds(n, R) = 2 (R - 1) alpha + 2 (R - 1) / R * 4 n / beta
Then `qtf train` runs with 1, 2 and 4 ranks of one thread and a batch of its own each. A step is predicted as
  compute + max(sums - backward, last sum)
where backward is two thirds of compute: gradients are summed while it goes on, all but the last, the embedding's.
Where ranks outnumber cores, they share them. The prediction for more ranks gives each a core of its own.
  bench/distributed/scaling.py --text docs/training.md --preset tiny
  bench/distributed/scaling.py … --alpha 20e-6 --beta 12.5e9    predict with the network of a cluster instead
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.append(os.path.join(HERE, os.pardir))
from where import measured_at

PREDICTED = [1, 2, 4, 8, 16, 64, 256, 1024]


def parse():
    parser = argparse.ArgumentParser(description="Measures training with several ranks, and predicts more")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"), help="with qtf and sum_steps")
    parser.add_argument("--text", default=os.path.join(ROOT, "docs/training.md"), help="to train on (%(default)s)")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--batch", type=int, default=8, help="sequences a rank (%(default)s)")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--steps", type=int, default=24, help="steps a run, the first four not timed (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each number of ranks, in turns (%(default)s)")
    parser.add_argument("--repeat", type=int, default=41, help="sums a size (%(default)s)")
    parser.add_argument("--alpha", type=float, help="seconds of a message, instead of the fitted")
    parser.add_argument("--beta", type=float, help="bytes a second between two ranks, instead of the fitted")
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    flags = parser.parse_args()
    if flags.steps < 6:
        parser.error("--steps must be at least 6")
    return flags


def mpirun(ranks, words):
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), *words]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


def ring(alpha, beta, numbers, ranks):
    return 2 * (ranks - 1) * alpha + 2 * (ranks - 1) / ranks * 4 * numbers / beta


def fit(sums):
    """alpha and beta with the least squared relative errors; sums: (ranks, numbers, seconds)."""
    a = b = c = p = q = 0.0  # normal equations of (x alpha + y / beta) / seconds = 1
    for ranks, numbers, seconds in sums:
        x, y = 2 * (ranks - 1) / seconds, 2 * (ranks - 1) / ranks * 4 * numbers / seconds
        a, b, c, p, q = a + x * x, b + x * y, c + y * y, p + x, q + y
    determinant = a * c - b * b
    return (p * c - q * b) / determinant, determinant / (a * q - b * p)


def step_seconds(flags, ranks, folder):
    """Of the steps but the first four: their median, and the parameters that were summed."""
    words = ["train", "--train", flags.text, "--preset", flags.preset, "--context", str(flags.context), "--threads",
             "1", "--batch", str(flags.batch), "--steps", str(flags.steps), "--validate-every", str(flags.steps),
             "--quiet", "--out", folder]
    program = os.path.join(flags.bin, "qtf")
    if ranks == 1:
        subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL)
    else:
        mpirun(ranks, [program, *words])
    with open(os.path.join(folder, "metrics.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    tokens = flags.batch * flags.context * ranks
    seconds = [tokens / line["tokens_per_second"] for line in lines if line["event"] == "step"][4:]
    return statistics.median(seconds), lines[0]["parameters"]


def predict(compute, numbers, last, alpha, beta, ranks):
    """Seconds of a step; numbers: of all gradients; last: of those that nothing hides."""
    if ranks == 1:
        return compute
    sums, visible = ring(alpha, beta, numbers, ranks), ring(alpha, beta, last, ranks)
    return compute + max(sums - 2 / 3 * compute, visible)


def main():
    flags = parse()
    figures = {"where": measured_at(**vars(flags)), "sums": [], "steps": []}
    for ranks in (2, 4):
        report = json.loads(mpirun(ranks, [os.path.join(flags.bin, "sum_steps"), "--repeat", str(flags.repeat)]))
        figures["sums"] += [(ranks, row["numbers"], row["seconds"]) for row in report["sums"]]
    cores = figures["where"]["machine"]["cores"]
    alpha, beta = fit([row for row in figures["sums"] if row[0] <= cores])
    print(f"{figures['where']['machine']['cpu']}, {cores} cores; commit {figures['where']['commit']}\n")
    print(f"A sum over R ranks, fitted at 2: alpha = {1e6 * alpha:.1f} us, beta = {beta / 1e9:.2f} GB/s\n")
    print("| ranks | floats | measured, us | fitted, us |\n|---|---|---|---|")
    for ranks, numbers, seconds in figures["sums"]:
        print(f"| {ranks} | {numbers} | {1e6 * seconds:.0f} | {1e6 * ring(alpha, beta, numbers, ranks):.0f} |")

    runs = {1: [], 2: [], 4: []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(flags.rounds):
            for ranks in runs:
                seconds, parameters = step_seconds(flags, ranks, os.path.join(folder, f"{turn}-{ranks}"))
                runs[ranks].append(seconds)
        with open(os.path.join(folder, "0-1", "config.json")) as file:
            config = json.load(file)
    embedding = config["vocab_size"] * config["hidden_size"]
    seconds = {ranks: statistics.median(found) for ranks, found in runs.items()}
    figures.update(steps=seconds, parameters=parameters, embedding=embedding, alpha=alpha, beta=beta)
    tokens = flags.batch * flags.context
    print(f"\n{parameters} parameters, {flags.batch} sequences of {flags.context} tokens a rank, one thread each\n")
    print("| ranks | ms a step, measured | model | tokens/s | of the ranks' own cores |\n|---|---|---|---|---|")
    for ranks, found in seconds.items():
        shared = max(1, ranks / cores)
        modelled = predict(seconds[1] * shared, parameters, embedding, alpha, beta, ranks)
        print(f"| {ranks} | {1e3 * found:.1f} | {1e3 * modelled:.1f} | {tokens * ranks / found:.0f} | "
              f"{seconds[1] * shared / found:.0%} |")

    alpha, beta = flags.alpha or alpha, flags.beta or beta
    print(f"\nPredicted with a core a rank, alpha {1e6 * alpha:.1f} us and beta {beta / 1e9:.2f} GB/s\n")
    print("| ranks | ms a step | tokens/s | efficiency |\n|---|---|---|---|")
    for ranks in PREDICTED:
        found = predict(seconds[1], parameters, embedding, alpha, beta, ranks)
        print(f"| {ranks} | {1e3 * found:.1f} | {tokens * ranks / found:.0f} | {seconds[1] / found:.0%} |")
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()

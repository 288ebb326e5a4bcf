#!/usr/bin/python3
"""What records cost: evaluation and generation with each audit level beside the same run without. (How fast records are
verified and decisions taken again: audit_verify_bench, with -DQTF_BUILD_BENCHMARKS=ON.)

The sides alternate, each in its own process (off, summary, full, off, ...); a ratio is of medians of their seconds.
  bench/audit/cost.py models/wikitext2-nested --text TEXT --json figures.json
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from where import ROOT, measured_at

LEVELS = ["off", "summary", "full"]


def parse():
    parser = argparse.ArgumentParser(description="Measures what records of decisions cost")
    parser.add_argument("model", help="a model folder with nested ranks and a policy")
    parser.add_argument("--text", required=True, help="to evaluate")
    parser.add_argument("--qtf", default=os.path.join(ROOT, "build", "release", "bin", "qtf"))
    parser.add_argument("--rounds", type=int, default=5, help="runs a side (%(default)s)")
    parser.add_argument("--tokens", type=int, default=100000, help="to generate (%(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    return parser.parse_args()


def seconds_of(words):
    begin = time.monotonic()
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return time.monotonic() - begin


def jobs(flags):
    common = ["--rank-policy", "entropy", "--threads", str(flags.threads)]
    return {
        "evaluation": [flags.qtf, "eval", flags.model, "--text", flags.text, *common],
        "generation": [flags.qtf, "generate", flags.model, "--prompt", "The ", "--tokens", str(flags.tokens), *common],
    }


def measure_cost(flags, folder):
    """Seconds of each job and level."""
    seconds = {}
    for name, words in jobs(flags).items():
        seconds[name] = {level: [] for level in LEVELS}
        for turn in range(flags.rounds):
            for level, found in seconds[name].items():
                file = os.path.join(folder, f"{name}-{level}-{turn}.sqlite")
                audit = [] if level == "off" else ["--audit", file, "--audit-level", level]
                found.append(seconds_of([*words, *audit]))
    return seconds


def main():
    flags = parse()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure_cost(flags, folder)
        print("| what | off, s | summary | full |\n|---|---|---|---|")
        for name, levels in seconds.items():
            off, summary, full = (statistics.median(levels[level]) for level in LEVELS)
            print(f"| {name} | {off:.2f} | {summary / off - 1:+.1%} | {full / off - 1:+.1%} |")
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump({"where": measured_at(**vars(flags)), "seconds": seconds}, file, indent=1)


if __name__ == "__main__":
    main()

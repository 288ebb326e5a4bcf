#!/usr/bin/env python3
"""Random feasible budgets, kept by `qtf budget` and measured afresh by another process.

Of each model the smallest and the largest of every budget are found first; then budgets are drawn between
them: parameters, bytes, time, energy, and mixtures of two to four of these. Each is built by `qtf budget` and
judged by `qtf budget DIR --verify` (docs/budgets.md, "Holds"). Mixtures that `qtf budget` refuses are counted
and drawn anew. Results lie in --out, a line a budget, and another call goes on after them.

  bench/adaptive/budgets.py --qtf build/release/bin/qtf --out /tmp/budgets --calibrate FILE MODEL...
"""

import argparse
import json
import math
import pathlib
import random
import shutil
import subprocess
import sys
import time

KINDS = {
    "max_params": ("--max-params", "", "params"),
    "max_bytes": ("--max-bytes", "B", "bytes"),
    "max_latency_ms": ("--max-latency-ms", "ms", "p95_ms"),
    "max_energy_j": ("--max-energy-per-query", "J", "joules"),
}


def call(args, expect=(0,)):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, check=False)
    if done.returncode not in expect:
        sys.exit(f"{' '.join(map(str, args))} ended with {done.returncode}: {done.stderr}")
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None


class Bench:
    def __init__(self, args):
        self.args = args
        args.out.mkdir(parents=True, exist_ok=True)
        self.results = args.out / "results.jsonl"
        self.models = args.out / "model"

    def common(self):
        options = ["--query", self.args.query, "--quiet", "--json"]
        if self.args.watts:
            options += ["--watts", self.args.watts]
        if self.args.calibrate:
            options += ["--calibrate", self.args.calibrate]
        return options

    def build(self, model, budgets):
        """The report of a model made in self.models, or None if the budgets cannot be kept."""
        shutil.rmtree(self.models, ignore_errors=True)
        args = [self.args.qtf, "budget", model, "--out", self.models, *self.common()]
        for kind, value in budgets.items():
            option, unit, _ = KINDS[kind]
            args += [option, f"{value:.9g}{unit}" if isinstance(value, float) else f"{value}{unit}"]
        status, report = call(args, expect=(0, 2))
        return status == 0, report

    def verify(self):
        args = [self.args.qtf, "budget", self.models, "--verify", "--quiet", "--json"]
        if self.args.watts:
            args += ["--watts", self.args.watts]
        return call(args, expect=(0, 2))[1]

    def ranges(self, model):
        """Of every budget the least that can be reached and what the whole model takes."""
        kept = self.args.out / f"ranges-{pathlib.Path(model).name}.json"
        if kept.exists():
            return json.loads(kept.read_text())
        feasible, whole = self.build(model, {"max_params": 10**12})
        assert feasible
        ranges = {}
        for kind, (_, _, measured) in KINDS.items():
            tiny = 1 if kind in ("max_params", "max_bytes") else 1e-6
            feasible, refused = self.build(model, {kind: tiny})
            assert not feasible and refused["binding"] == kind, refused
            ranges[kind] = (refused["nearest"][kind], whole["measured"][measured])
        kept.write_text(json.dumps(ranges))
        return ranges

    def draw(self, rng, ranges, number):
        kinds = list(KINDS)
        if number % 5 < 4:
            chosen = [kinds[number % 5]]
        else:
            chosen = rng.sample(kinds, rng.randint(2, 4))
        budgets = {}
        for kind in chosen:
            least, most = ranges[kind]
            # What is measured may move a little between two runs: not at the very ends.
            share = rng.uniform(0.1, 1.0)
            value = least * math.exp(share * math.log(max(most / least, 1.05)))
            budgets[kind] = int(value) if kind in ("max_params", "max_bytes") else value
        return budgets

    def run(self):
        begin = time.monotonic()
        done = [json.loads(line) for line in self.results.read_text().splitlines()] if self.results.exists() else []
        for model in self.args.models:
            ranges = self.ranges(model)
            for number in range(self.args.count):
                if any(r["model"] == model and r["number"] == number for r in done):
                    continue
                if time.monotonic() - begin > 60 * self.args.minutes:
                    return done
                row = self.one(model, ranges, number)
                done.append(row)
                with self.results.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                print(self.text(row), flush=True)
        return done

    def one(self, model, ranges, number):
        rng = random.Random(f"{self.args.seed} {pathlib.Path(model).name} {number}")
        refused = 0
        while True:
            budgets = self.draw(rng, ranges, number)
            begin = time.monotonic()
            feasible, report = self.build(model, budgets)
            if feasible:
                break
            refused += 1
            if refused > 20:
                sys.exit(f"{model}: 20 budgets in a row were refused, the last {budgets}: {report}")
        seconds = time.monotonic() - begin
        verified = self.verify()
        return {
            "model": model, "number": number, "budgets": budgets, "refused": refused, "seconds": seconds,
            "gap": report["bound_gap"], "holds": verified["holds"], "measured": verified["measured"],
            "runs": verified["runs"], "repeated": verified["repeated"], "unsteady": verified["unsteady"],
        }

    @staticmethod
    def text(row):
        parts = []
        for kind, value in row["budgets"].items():
            parts.append(f"{kind} {row['measured'][KINDS[kind][2]]:.5g} of {value:.5g}")
        return (f"{pathlib.Path(row['model']).name:>20} {row['number']:3} {'holds ' if row['holds'] else 'BROKEN'} "
                f"{', '.join(parts)} (gap {100 * row['gap']:.2g} %, {row['seconds']:.0f} s, "
                f"{row['repeated']} of {row['runs'] + row['repeated']} runs repeated)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--qtf", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--calibrate", help="as of qtf budget, for models without a calibration of their own")
    parser.add_argument("--query", default="prompt=64,tokens=32")
    parser.add_argument("--watts", help="as of qtf budget")
    parser.add_argument("--count", type=int, default=15, help="budgets a model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after the budget that ends later")
    args = parser.parse_args()
    rows = Bench(args).run()
    held = sum(row["holds"] for row in rows)
    refused = sum(row["refused"] for row in rows)
    print(f"{held} of {len(rows)} budgets hold; {refused} mixtures were refused as infeasible on the way")
    return 0 if held == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
"""Speed of compressed feed-forward layers beside our own dense kernels.

SwiGLU layers as in preset `large` (D 512, F 1368), as many as it has, so that their weights come from where they
would in the model. Their three maps are chains with 1/ratio of the dense numbers; the other side multiplies the
chains' own matrices, written out. The outputs are compared first; then the sides alternate in one process, and the
ratio of each pair of times counts: the medians are the figures.
  bench/compress/speed.py [--threads 1,2] [--layers 1] [--json figures.json]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from where import ROOT, measured_at

ASKED = {2: 1.6, 3: 2.6}  # at every token count


def parse():
    parser = argparse.ArgumentParser(description="Compares compressed feed-forward layers with dense ones")
    parser.add_argument("--qtf", default=os.path.join(ROOT, "build", "release", "bin", "feed_forward"),
                        help="the program feed_forward (%(default)s)")
    parser.add_argument("--threads", default=str(len(os.sched_getaffinity(0))), help="with commas (%(default)s)")
    parser.add_argument("--layers", default="14", help="with commas; 1 stays in cache (%(default)s)")
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    parser.add_argument("more", nargs="*", help="after --: flags of feed_forward")
    return parser.parse_args()


def measure(flags, threads, layers):
    command = [flags.qtf, "--threads", threads, "--layers", layers, *flags.more]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr.strip()}")
    return json.loads(result.stdout)["results"]


def figures(result):
    pairs = [d / c for d, c in zip(result["dense_seconds"], result["chain_seconds"])]
    quarters = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
    return {"speed": statistics.median(pairs), "from": quarters[0], "to": quarters[2],
            "dense": statistics.median(result["dense_seconds"]), "chain": statistics.median(result["chain_seconds"])}


def print_rows(threads, layers, results):
    for r in results:
        f = figures(r)
        asked = ASKED.get(r["ratio"])
        met = "" if asked is None else f" {asked} {'met' if f['speed'] >= asked else 'missed'}"
        print(f"| {layers} | {threads} | {r['ratio']:g} | {r['tokens']} | {1e6 * f['dense']:.1f} | {1e6 * f['chain']:.1f} | "
              f"{f['speed']:.2f} ({f['from']:.2f} to {f['to']:.2f}) |{met} | "
              f"{r['dense_parameters'] / r['macs']:.2f} | {r['error']:.0e} |", flush=True)


def main():
    flags = parse()
    if not os.path.exists(flags.qtf):
        sys.exit(f"{flags.qtf} is not built: cmake --build --preset release --target feed_forward")
    where = measured_at()
    print(f"{where['machine']['cpu']}, {where['machine']['cores']} cores, commit {where['commit']}, "
          f"load {where['load_before']:.1f} before\n")
    print("| layers | threads | ratio | tokens | dense, µs a layer | chain, µs a layer | times as fast (quartiles) | asked | "
          "fewer MACs | difference |\n" + "|---" * 10 + "|")
    runs = []
    for layers in flags.layers.split(","):
        for threads in flags.threads.split(","):
            results = measure(flags, threads, layers)
            print_rows(threads, layers, results)
            runs.append({"layers": int(layers), "threads": int(threads), "results": results})
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump({**where, "runs": runs}, file, indent=2)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Speed of training beside PyTorch: whole steps of the same GPT-2-family model on the same batches.

The losses are compared first. Then the sides alternate, each in its own process (ours, PyTorch, ours, ...), and
each pair gives one ratio; the median is the figure. Without PyTorch only our own speed is printed.
  bench/training/compare.py --config D128L2T128B32 --config D256L4T128B16 --json figures.json
Tensor trains beside our own dense and PyTorch's (tensor_trains.py), and our speed against every size (scaling.py):
  bench/training/compare.py --tensor-trains --config D256L4T128B16
  bench/training/compare.py --scaling --svg docs/training-scaling.svg
"""
import argparse
import json
import os
import re
import statistics
import sys
import tempfile

import scaling
import sides
import tensor_trains

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from where import measured_at

DEFAULT_CONFIGS = ["D128L2T128B32", "D256L4T128B16"]
VOCAB = 4096
HEAD_WIDTH = 32  # as qtf's presets have it


def parse_config(text):
    """D128L2T128B32, with H4 for another number of heads, as sizes."""
    match = re.fullmatch(r"D(\d+)L(\d+)(?:H(\d+))?T(\d+)B(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is not of the form D128L2T128B32")
    width, layers, heads, context, batch = (int(group) if group else None for group in match.groups())
    heads = heads or max(1, width // HEAD_WIDTH)
    return {"name": text, "width": width, "layers": layers, "heads": heads, "context": context, "batch": batch}


def parse():
    parser = argparse.ArgumentParser(description="Compares the speed of training with PyTorch's")
    sides.add_side_flags(parser)
    parser.add_argument("--config", action="append", type=parse_config, help=f"may be repeated ({DEFAULT_CONFIGS})")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs a configuration (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="steps a run, the first two not timed (%(default)s)")
    tensor_trains.add_flags(parser)
    parser.add_argument("--scaling", action="store_true", help="instead: our speed against each size alone")
    parser.add_argument("--svg", help="with --scaling: file to draw the speeds in")
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    flags = parser.parse_args()
    flags.config = flags.config or [parse_config(text) for text in DEFAULT_CONFIGS]
    if flags.steps < 3 or flags.rounds < 1:
        parser.error("--steps must be at least 3 and --rounds at least 1")
    if flags.svg and not flags.scaling:
        parser.error("--svg needs --scaling")
    return flags


def run_pairs(flags, config, folder, peer):
    """The runs of one configuration, alternating: [(ours, theirs or None)]."""
    words = sides.side_flags(folder, flags.steps, config["batch"], config["context"], flags.threads)
    pairs = []
    for number in range(1, flags.rounds + 1):
        ours = sides.run_qtf(flags.qtf, words)
        theirs = sides.run_torch(flags.peer, words, flags.threads) if peer else None
        if peer and number == 1:
            worst = max(sides.relative_errors(ours["losses"], theirs["losses"]))
            if worst > sides.TOLERANCE:
                sys.exit(f"{config['name']}: the losses differ by {worst:.1e}, a speed would mean nothing")
            print(f"{config['name']}: losses agree within {worst:.1e} over {flags.steps} steps")
        pairs.append((ours, theirs))
        print_pair(config, number, ours, theirs)
    return pairs


def print_pair(config, number, ours, theirs):
    line = (f"{config['name']} {number}: qtf {ours['tokens_per_second']:7.0f} tokens/s "
            f"({100 * ours['peak_share']:.0f} % of FMA peak)")
    if theirs:
        line += (f", PyTorch {theirs['tokens_per_second']:7.0f} tokens/s, "
                 f"ratio {ours['tokens_per_second'] / theirs['tokens_per_second']:.2f}")
    print(line, flush=True)


def summary(config, pairs):
    def median(side, key):
        return statistics.median(pair[side][key] for pair in pairs)

    figures = {"config": config, "qtf_tokens_per_second": median(0, "tokens_per_second"),
               "qtf_peak_share": median(0, "peak_share"), "qtf_peak_rss_mb": median(0, "peak_rss_mb")}
    if pairs[0][1]:
        figures["ratios"] = [ours["tokens_per_second"] / theirs["tokens_per_second"] for ours, theirs in pairs]
        figures["ratio"] = statistics.median(figures["ratios"])
        figures["peer_tokens_per_second"] = median(1, "tokens_per_second")
        figures["peer_peak_rss_mb"] = median(1, "peak_rss_mb")
    return figures


def print_summary(results):
    print("\nmedians            ratio   qtf tokens/s   PyTorch   share of peak   memory, MB: qtf / PyTorch")
    for r in results:
        ratio = f"{r['ratio']:.2f}" if "ratio" in r else "-"
        peer = f"{r['peer_tokens_per_second']:.0f}" if "ratio" in r else "peer missing"
        memory = f"{r['peer_peak_rss_mb']:.0f}" if "ratio" in r else "-"
        print(f"{r['config']['name']:18} {ratio:>5} {r['qtf_tokens_per_second']:14.0f} {peer:>9} "
              f"{100 * r['qtf_peak_share']:13.0f} % {r['qtf_peak_rss_mb']:15.0f} / {memory}")


def measure_scaling(flags, python):
    rows = scaling.measure(flags, python, HEAD_WIDTH)
    scaling.print_table(rows)
    if flags.svg:
        with open(flags.svg, "w") as file:
            file.write(scaling.svg(rows))
    return rows


def measure_configs(flags, python, peer):
    results = []
    for config in flags.config:
        with tempfile.TemporaryDirectory(prefix="qtf-compare-") as folder:
            sizes = {name: config[name] for name in ("layers", "width", "heads", "context", "batch")}
            sides.make_folder(python, folder, vocab=VOCAB, steps=flags.steps, **sizes)
            if flags.tensor_trains:
                results.append(tensor_trains.compare(flags, config, folder, peer))
            else:
                results.append(summary(config, run_pairs(flags, config, folder, peer)))
    (tensor_trains.print_summary if flags.tensor_trains else print_summary)(results)
    return results


def main():
    flags = parse()
    sides.require_program(flags.qtf)
    peer = sides.has_torch(flags.peer)
    if not peer:
        print("peer missing: no python3-torch, our own speed only")
    where = measured_at(threads=flags.threads)
    if where["load_before"] > 0.5:
        print(f"warning: load average {where['load_before']:.1f}, other programs run here; they slow PyTorch's spinning "
              "threads more than ours, so the ratios flatter us")
    print(f"{where['machine']['cpu']}, {where['machine']['cores']} cores, {flags.threads} threads, "
          f"commit {where['commit']}, V {VOCAB}")
    # NumPy makes the folders; without PyTorch's Python, this one does.
    python = flags.peer if peer else sys.executable
    if flags.scaling:
        results = measure_scaling(flags, python)
    else:
        results = measure_configs(flags, python, peer)
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump({**where, "results": results}, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The tensor-train rows of compare.py: the speed of training chains, interleaved trains and nested levels beside our
own dense model and beside PyTorch.

Every side starts from the same dense model: `training_steps --write-to` decomposes it, and PyTorch reads the cores
(torch_shapes.py). The losses of a shape are compared with PyTorch's before anything is timed; nested training, which
PyTorch has no side for, must begin with the plain model's loss. Then all sides run in turn, each in its own process,
and each round gives one ratio a target.
"""
import os
import statistics
import sys

import sides

# What a ratio is of: (row, side, other side, wanted). Sides are those of `plan`; ratios are of tokens/s.
TARGETS = [
    ("chain, beside our own dense", "chain", "dense", 1.3),
    ("chain, beside PyTorch's chain", "chain", "torch chain", None),
    ("mpo feed-forward, beside our own dense", "mpo", "dense", 0.95),
    ("mpo feed-forward, beside PyTorch's einsum", "mpo", "torch mpo einsum", 6.0),
    ("mpo feed-forward, beside PyTorch rebuilding W", "mpo", "torch mpo rebuild", None),
    ("nested levels, beside the same chains without", "nested", "chain", 1 / 1.8),
    ("nested levels in turns, beside the same chains without", "nested turns", "chain", 1 / 1.8),
]


def add_flags(parser):
    parser.add_argument("--tensor-trains", action="store_true",
                        help="instead: chains, interleaved trains and nested levels, beside dense and PyTorch's")
    parser.add_argument("--ratio", type=float, default=2, help="of the chains' whole model (%(default)s)")
    parser.add_argument("--mpo", default="ffn=mpo:rank=16", help="the interleaved trains (%(default)s)")
    parser.add_argument("--levels", type=int, default=4, help="of the nested chains (%(default)s)")
    parser.add_argument("--side", action="append", metavar="NAME",
                        help="only these sides, for instance `chain` and `dense`; the ratios of others are left out")


def plan(flags, folder, words):
    """{side: function that runs it}; writes the models that the sides read."""
    def model(name, *shape_flags):
        path = os.path.join(folder, name)
        sides.write_shapes(flags.qtf, folder, path, *shape_flags)
        return words(path)

    dense, chain = words(folder), model("chain", "--ratio", str(flags.ratio))
    mpo = model("mpo", "--shape", flags.mpo)
    nested = model("nested", "--ratio", str(flags.ratio), "--levels", str(flags.levels))
    def torch(flag_words, *more):
        return lambda: sides.run_torch(flags.peer, [*flag_words, *more], flags.threads)

    return {
        "dense": lambda: sides.run_qtf(flags.qtf, dense),
        "chain": lambda: sides.run_qtf(flags.qtf, chain),
        "mpo": lambda: sides.run_qtf(flags.qtf, mpo),
        "nested": lambda: sides.run_qtf(flags.qtf, [*nested, "--nested"]),
        "nested turns": lambda: sides.run_qtf(flags.qtf, [*nested, "--nested", "--in-turns"]),
        "torch dense": torch(dense),
        "torch chain": torch(chain),
        "torch mpo einsum": torch(mpo),
        "torch mpo rebuild": torch(mpo, "--mpo", "rebuild"),
    }


def check_losses(runs):
    """Ends the program where a shape's losses are not PyTorch's."""
    for side, run in runs.items():
        ours = side.split()[1] if side.startswith("torch ") else None
        if not ours or ours not in runs:
            continue
        worst = max(sides.relative_errors(runs[ours]["losses"], run["losses"]))
        if worst > sides.TOLERANCE:
            sys.exit(f"the losses of {ours} and {side} differ by {worst:.1e}, a speed would mean nothing")
        print(f"losses of {ours} and {side} agree within {worst:.1e} over {len(run['losses'])} steps")
    for side in {"nested", "nested turns"} & set(runs if "chain" in runs else ()):
        first = sides.relative_errors(runs[side]["losses"][:1], runs["chain"]["losses"][:1])[0]
        if first > sides.TOLERANCE:
            sys.exit(f"{side} training begins with another loss than the same chains: {first:.1e}")


def run_rounds(flags, config, folder, peer):
    """[{side: run}], a round each."""
    table = plan(flags, folder, lambda path: sides.side_flags(path, flags.steps, config["batch"], config["context"],
                                                              flags.threads))
    unknown = set(flags.side or []) - set(table)
    if unknown:
        sys.exit(f"--side {', '.join(sorted(unknown))}: the sides are {', '.join(table)}")
    chosen = [side for side in flags.side or table if peer or not side.startswith("torch ")]
    rounds = []
    for number in range(1, flags.rounds + 1):
        runs = {}
        for side in chosen:
            runs[side] = table[side]()
            print(f"{config['name']} {number}: {side:18} {runs[side]['tokens_per_second']:8.0f} tokens/s", flush=True)
        if number == 1:
            check_losses(runs)
        rounds.append(runs)
    return rounds


def summary(config, rounds):
    rows = []
    for name, side, other, wanted in TARGETS:
        if side not in rounds[0] or other not in rounds[0]:
            continue
        speeds = [(runs[side]["tokens_per_second"], runs[other]["tokens_per_second"]) for runs in rounds]
        ratios = [a / b for a, b in speeds]
        rows.append({"row": name, "ratio": statistics.median(ratios), "ratios": ratios, "wanted": wanted,
                     "tokens_per_second": statistics.median(a for a, _ in speeds),
                     "other_tokens_per_second": statistics.median(b for _, b in speeds),
                     "parameters": rounds[0][side]["parameters"],
                     "peak_rss_mb": rounds[0][side]["peak_rss_mb"],
                     "other_peak_rss_mb": rounds[0][other]["peak_rss_mb"]})
    return {"config": config, "rows": rows}


def print_summary(results):
    print("\n| model | row | M parameters | tokens/s | other | ratio (rounds) | wanted | MB | other |\n"
          "|---|---|---|---|---|---|---|---|---|")
    for result in results:
        for row in result["rows"]:
            spread = f"{row['ratio']:.2f}"
            if len(row["ratios"]) > 1:
                spread += f" ({min(row['ratios']):.2f} to {max(row['ratios']):.2f})"
            wanted = f"{row['wanted']:.2f}" if row["wanted"] else "-"
            print(f"| {result['config']['name']} | {row['row']} | {row['parameters'] / 1e6:.2f} "
                  f"| {row['tokens_per_second']:.0f} | {row['other_tokens_per_second']:.0f} | {spread} | {wanted} "
                  f"| {row['peak_rss_mb']:.0f} | {row['other_peak_rss_mb']:.0f} |")


def compare(flags, config, folder, peer):
    return summary(config, run_rounds(flags, config, folder, peer))

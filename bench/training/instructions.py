#!/usr/bin/python3
"""Instructions of one training step by kernel, counted by callgrind: a record that no load on the machine changes.

Two runs of `training_steps`, one of one step more, differ by exactly that step. callgrind knows no AVX-512, so these
are the AVX2 kernels. Needs valgrind and, for the random models, PyTorch (as compare.py).
  bench/training/instructions.py --config D128L2T128B4
"""
import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile

import sides
from compare import VOCAB, parse_config

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from where import measured_at

# The first row whose pattern is found in a function's name has its instructions.
ROWS = [
    ("products: the register tile", r"::tile<|multiply_block|gemm_columns"),
    ("products: packing operands", r"::pack|packed<"),
    ("attention's softmax", r"softmax_causal|softmax_backward"),
    ("the loss' softmax", r"softmax|log_sum"),
    ("activations", r"gelu|silu|swiglu"),
    ("norms", r"norm"),
    ("optimizer", r"adamw|sum_squares"),
    ("sums, copies and zeros", r"::add|column_sums|mem(set|cpy|move)"),
    ("the rest", r""),
]
NOT_OF_A_STEP = r"multiply_adds"  # measures the machine's peak, by the clock


def self_counts(path):
    """{function: instructions of its own} of a callgrind file."""
    names, counts, function, inclusive = {}, collections.Counter(), None, False
    with open(path) as file:
        for line in file:
            if match := re.match(r"(c?)fn=\((\d+)\)(?: (.*))?", line):
                called, number, name = match.groups()
                if name:
                    names[number] = name
                if not called:
                    function = names[number]
            elif line.startswith("calls="):
                inclusive = True  # the next line counts the call, not the function's own
            elif re.match(r"[\d+*-]", line):
                if not inclusive:
                    counts[function] += int(line.split()[1])
                inclusive = False
    return counts


def count(program, words, out):
    command = ["valgrind", "--tool=callgrind", "--dump-line=no", f"--callgrind-out-file={out}", program, *words]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\nended with status {result.returncode}:\n{result.stderr.strip()[-2000:]}")
    return self_counts(out)


def by_row(counts):
    rows = collections.Counter()
    for function, instructions in counts.items():
        if not re.search(NOT_OF_A_STEP, function):
            rows[next(name for name, pattern in ROWS if re.search(pattern, function))] += instructions
    return rows


def step_counts(program, folder, config, *more):
    """Instructions of a step after the first, by row."""
    def run(steps):
        words = sides.side_flags(folder, steps, config["batch"], config["context"], 1)
        return by_row(count(program, [*words, *more], os.path.join(folder, f"callgrind.{steps}")))

    one, two = run(1), run(2)
    return {name: two[name] - one[name] for name, _ in ROWS}


def main():
    parser = argparse.ArgumentParser(description="Counts the instructions of a training step")
    sides.add_side_flags(parser)
    parser.add_argument("--config", type=parse_config, default="D128L2T128B4", help="sizes (%(default)s)")
    parser.add_argument("--json", help="file to save the counts in, with machine and commit")
    flags = parser.parse_args()
    sides.require_program(flags.qtf)
    if subprocess.run(["which", "valgrind"], capture_output=True).returncode:
        sys.exit("valgrind is missing: apt-get install valgrind")
    config = flags.config
    where = measured_at()
    with tempfile.TemporaryDirectory(prefix="qtf-instructions-") as folder:
        sides.make_folder(flags.peer, folder, steps=2, vocab=VOCAB,
                          **{key: config[key] for key in ("width", "layers", "heads", "context", "batch")})
        models = {"dense": (folder, ())}
        for name, shape, more in (("chain 2x", ("--ratio", "2"), ()), ("mpo rank 16", ("--shape", "ffn=mpo:rank=16"), ()),
                                  ("4 levels", ("--ratio", "2", "--levels", "4"), ("--nested",))):
            path = os.path.join(folder, name.replace(" ", "-"))
            sides.write_shapes(flags.qtf, folder, path, *shape)
            models[name] = (path, more)
        counts = {name: step_counts(flags.qtf, path, config, *more) for name, (path, more) in models.items()}
    tokens = config["batch"] * config["context"]
    print(f"{config['name']}, V {VOCAB}: thousands of instructions a token (AVX2, 1 thread, commit {where['commit']})\n")
    print("| | " + " | ".join(counts) + " |\n" + "|---" * (len(counts) + 1) + "|")
    for row, _ in ROWS:
        print(f"| {row} | " + " | ".join(f"{counts[name][row] / tokens / 1e3:.1f}" for name in counts) + " |")
    print("| together | " + " | ".join(f"{sum(c.values()) / tokens / 1e3:.1f}" for c in counts.values()) + " |")
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump({**where, "config": config, "instructions": counts}, file, indent=1)


if __name__ == "__main__":
    main()

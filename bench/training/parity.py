#!/usr/bin/python3
"""Trains one small GPT-2-family model on both sides, from the same weights and batches, and holds every loss
of ours within 1e-4 relative of PyTorch's. Prints the table; exit status 1 where they differ, 77 where
python3-torch is missing. The sides' interface: sides.py.
"""
import argparse
import sys
import tempfile

import sides


def parse():
    parser = argparse.ArgumentParser(description="Compares our losses with PyTorch's, step by step")
    sides.add_side_flags(parser)
    for name, default in [("layers", 2), ("width", 64), ("heads", 4), ("vocab", 512), ("context", 64), ("steps", 20),
                          ("batch", 8), ("seed", 1)]:
        parser.add_argument("--" + name, type=int, default=default)
    return parser.parse_args()


def main():
    flags = parse()
    if not sides.has_torch(flags.peer):
        print("skipped: python3-torch is missing")
        return 77
    sides.require_program(flags.qtf)
    sizes = {name: getattr(flags, name)
             for name in ("layers", "width", "heads", "vocab", "context", "steps", "batch", "seed")}
    with tempfile.TemporaryDirectory(prefix="qtf-parity-") as folder:
        sides.make_folder(flags.peer, folder, **sizes)
        words = sides.side_flags(folder, flags.steps, flags.batch, flags.context, flags.threads)
        ours = sides.run_qtf(flags.qtf, words)["losses"]
        theirs = sides.run_torch(flags.peer, words, flags.threads)["losses"]
    errors = sides.relative_errors(ours, theirs)
    print("step        qtf    PyTorch   relative error")
    for step, (a, b, error) in enumerate(zip(ours, theirs, errors), start=1):
        print(f"{step:4} {a:10.6f} {b:10.6f}   {error:.1e}{'  <-- too far' if error > sides.TOLERANCE else ''}")
    same = max(errors) <= sides.TOLERANCE
    print(f"{'equal' if same else 'DIFFERENT'}: largest relative error {max(errors):.1e}, allowed {sides.TOLERANCE:.0e}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

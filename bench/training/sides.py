"""The two sides of bench/training/ as processes with one interface.

Ours is the program `training_steps` (bench/training/training_steps.cc), the peer torch_gpt2.py. Both take
  --model DIR --batches FILE --steps N --batch B --context T --learning-rate X --beta1 X --beta2 X
  --weight-decay X --clip X --threads N
and print one JSON object: {"losses", "step_seconds", "tokens_per_second", "peak_rss_mb"}, ours also
"peak_share", "flops_per_token" and "parameters". The learning rate is constant, without warm-up; tokens_per_second is that of the median step
after the first two.
"""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TORCH_SIDE = os.path.join(HERE, "torch_gpt2.py")
DEFAULT_QTF = os.path.join(ROOT, "build", "release", "bin", "training_steps")
DEFAULT_PEER = "/usr/bin/python3"
OPTIMIZER = {"--learning-rate": 1e-3, "--beta1": 0.9, "--beta2": 0.95, "--weight-decay": 0.1, "--clip": 1}
TOLERANCE = 1e-4  # relative, of every loss


def add_side_flags(parser):
    parser.add_argument("--qtf", default=DEFAULT_QTF, help="our side, the program training_steps (%(default)s)")
    parser.add_argument("--peer", default=DEFAULT_PEER, help="a Python that has PyTorch (%(default)s)")
    parser.add_argument("--threads", type=int, default=2)


def peer_environment(threads):
    """PyTorch's defaults on Debian are one thread and an OpenBLAS whose pthreads fight with OpenMP's: this is
    what a user gets who tuned it."""
    openmp = [f"/usr/lib/{machine}-linux-gnu/openblas-openmp" for machine in ("x86_64", "aarch64")]
    paths = [path for path in openmp if os.path.isdir(path)] + [os.environ.get("LD_LIBRARY_PATH", "")]
    return dict(os.environ, OMP_NUM_THREADS=str(threads), LD_LIBRARY_PATH=":".join(p for p in paths if p))


def has_torch(peer):
    probe = [peer, "-c", "import numpy, torch"]
    try:
        return subprocess.run(probe, capture_output=True).returncode == 0
    except OSError:
        return False


def require_program(path):
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is missing: build it with `cmake --build --preset release --target training_steps`, "
                 "or name it with --qtf PATH")


def make_folder(python, folder, **sizes):
    """Model folder and batches.i32 in `folder`."""
    flags = [word for name, value in sizes.items() for word in ("--" + name, str(value))]
    subprocess.run([python, TORCH_SIDE, "init", "--out", folder, *flags], check=True)


def side_flags(folder, steps, batch, context, threads):
    flags = {"--model": folder, "--batches": os.path.join(folder, "batches.i32"), "--steps": steps, "--batch": batch,
             "--context": context, **OPTIMIZER, "--threads": threads}
    return [str(word) for pair in flags.items() for word in pair]


def run_json(command, environment=None):
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\nended with status {result.returncode}:\n{result.stderr.strip()}")
    return json.loads(result.stdout)


def run_qtf(program, flags):
    return run_json([program, *flags])


def run_torch(python, flags, threads):
    return run_json([python, TORCH_SIDE, "train", *flags], peer_environment(threads))


def write_shapes(program, model, out, *shape_flags):
    """The model of a folder in other weight shapes, as the folder `out` with the same batches."""
    result = subprocess.run([program, "--model", model, "--write-to", out, *shape_flags], capture_output=True,
                            text=True)
    if result.returncode:
        sys.exit(f"{program} cannot write {' '.join(shape_flags)}:\n{result.stderr.strip()}")
    os.symlink(os.path.join(os.path.abspath(model), "batches.i32"), os.path.join(out, "batches.i32"))


def relative_errors(ours, theirs):
    if len(ours) != len(theirs):
        sys.exit(f"the sides did different numbers of steps: {len(ours)} and {len(theirs)}")
    return [abs(a - b) / abs(b) if a == a and b == b else float("inf") for a, b in zip(ours, theirs)]

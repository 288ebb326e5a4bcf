#!/usr/bin/python3
"""Speed of inference beside llama.cpp's: prompts of 512 tokens and 128 decoded tokens of the same weights, fp32 or,
with --dtype int8, integers of 8 bits with a scale for 32 of them on both sides (the peer's Q8_0).

The weights are random, of Llama's architecture. Where llama-simple lies beside llama-bench, the tokens that both
sides decode greedily are compared first. Then the sides alternate, each in its own process, and each pair gives
one ratio; the median is the figure. Without a peer only our own speed is printed.
  bench/inference/compare.py --peer ~/llama.cpp/build/bin/llama-bench --json figures.json
  bench/inference/compare.py --dtype int8 --peer ~/llama.cpp/build/bin/llama-bench
  bench/inference/compare.py --scaling    our own speed against width, context, vocabulary and threads
  bench/inference/compare.py --caches     and against what the cache holds

Peak memory is of a whole process. Joules are our own decoding's by the best meter that the machine has, with its
tier; the peer's are at the same watts.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import gguf

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from where import ROOT, measured_at

DEFAULT_QTF = os.path.join(ROOT, "build", "release", "bin", "inference_steps")
HEAD_WIDTH = 32  # as qtf's presets have it
MODELS = {
    "5M": {"width": 256, "layers": 4, "feed-forward": 704, "vocabulary": 8192},
    "17M": {"width": 384, "layers": 6, "feed-forward": 1024, "vocabulary": 16384},
    "47M": {"width": 512, "layers": 12, "feed-forward": 1408, "vocabulary": 16384},
}
PROMPT, GENERATE = 512, 128
SAME_TOKENS = 8  # at least; later ones may differ where the peer's fp16 cache tips a near tie


def parse():
    parser = argparse.ArgumentParser(description="Compares the speed of inference with llama.cpp's")
    parser.add_argument("--qtf", default=DEFAULT_QTF, help="our side, the program inference_steps (%(default)s)")
    parser.add_argument("--peer", help="the program llama-bench of llama.cpp, or of a fork of it")
    parser.add_argument("--dtype", default="f32", choices=["f32", "int8"], help="of the weights (%(default)s)")
    parser.add_argument("--converter", default=os.path.join(ROOT, "build", "release", "bin", "qtf"),
                        help="with int8 and a peer: writes its file (%(default)s)")
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated (all)")
    parser.add_argument("--threads", type=int, action="append", help="may be repeated (2)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs a model (%(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions within a run (%(default)s)")
    parser.add_argument("--scaling", action="store_true", help="print our own scaling instead")
    parser.add_argument("--caches", action="store_true", help="print our own speed by what the cache holds instead")
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    flags = parser.parse_args()
    flags.model = flags.model or list(MODELS)
    flags.threads = flags.threads or [2]
    if flags.rounds < 1 or flags.repeat < 1:
        parser.error("--rounds and --repeat must be at least 1")
    return flags


def run_program(command):
    """What a command printed, and the most bytes of memory that it had."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\nended with status {process.returncode}:\n"
                     f"{err.read().decode(errors='replace').strip()}")
        return out.read().decode(errors="replace"), 1024 * usage.ru_maxrss


def output_of(command):
    return run_program(command)[0]


def run_qtf(flags, folder, threads, verb, **options):
    words = [str(word) for name, value in options.items() for word in ("--" + name.replace("_", "-"), value)]
    return json.loads(output_of([flags.qtf, "--model", folder, "--threads", str(threads), verb, *words]))


def make_model(flags, folder, context=1024, **sizes):
    sizes = {"heads": sizes["width"] // HEAD_WIDTH, "kv-heads": sizes["width"] // HEAD_WIDTH, **sizes}
    return run_qtf(flags, folder, 1, "make", context=context, **sizes)["parameters"]


def median_speeds(flags, folder, threads, **options):
    result = run_qtf(flags, folder, threads, "speed", repeat=flags.repeat, **options)
    for key in ("prefill", "decode"):
        speeds = result.pop(f"{key}_tokens_per_second")
        result[key] = statistics.median(speeds) if speeds else 0
    return result


def run_peer(flags, path, threads):
    words = ["-m", path, "-p", str(PROMPT), "-n", str(GENERATE), "-t", str(threads), "-r", str(flags.repeat)]
    printed, peak = run_program([flags.peer, *words, "-o", "json"])
    speeds = {"prefill" if run["n_gen"] == 0 else "decode": statistics.median(run["samples_ts"])
              for run in json.loads(printed)}
    return {**speeds, "peak_bytes": peak}


def compare_outputs(flags, name, folder, path):
    simple = os.path.join(os.path.dirname(flags.peer), "llama-simple")
    if not os.access(simple, os.X_OK):
        print(f"{name}: no llama-simple beside the peer, outputs not compared")
        return
    prompt = [gguf.FIRST_WORD + 37 * i for i in range(1, 25)]
    text = output_of([simple, "-m", path, "-n", "32", " ".join(gguf.word(token) for token in prompt)])
    theirs = gguf.tokens_of(text.replace("<s>", "", 1))
    if theirs[:len(prompt)] != prompt:
        sys.exit(f"{name}: the peer read the prompt as {text!r}")
    theirs = theirs[len(prompt):]
    tokens = ",".join(str(token) for token in [gguf.START, *prompt])
    ours = {threads: run_qtf(flags, folder, threads, "greedy", tokens=tokens, generate=32)["tokens"]
            for threads in {1, *flags.threads}}
    if any(other != ours[1] for other in ours.values()):
        sys.exit(f"{name}: our own tokens depend on the number of threads")
    same = next((i for i, pair in enumerate(zip(ours[1], theirs)) if pair[0] != pair[1]), len(theirs))
    if same < min(SAME_TOKENS, len(theirs)) or not theirs:
        sys.exit(f"{name}: the sides decode other tokens, a speed would mean nothing:\n{ours[1]}\n{theirs}")
    print(f"{name}: the first {same} of {len(theirs)} greedily decoded tokens agree")


def compare(flags, name, folder):
    """Figures of one model, a row a number of threads."""
    parameters = make_model(flags, folder, **MODELS[name])
    path = os.path.join(folder, "model.gguf")
    if flags.peer:
        gguf.write_gguf(folder, path)
        compare_outputs(flags, name, folder, path)
    if flags.dtype != "f32":
        codes = os.path.join(folder, flags.dtype)
        output_of([flags.qtf, "--model", codes, "quantize", "--from", folder, "--dtype", flags.dtype])
        folder = codes
        if flags.peer:
            output_of([flags.converter, "convert", path, path + ".q8_0.gguf", "--type", "q8_0"])
            path += ".q8_0.gguf"
    rows = []
    for threads in flags.threads:
        pairs = []
        for number in range(1, flags.rounds + 1):
            ours = median_speeds(flags, folder, threads, prompt=PROMPT, generate=GENERATE)
            theirs = run_peer(flags, path, threads) if flags.peer else None
            pairs.append((ours, theirs))
            print_pair(name, number, threads, ours, theirs)
        rows.append(summary(name, parameters, threads, pairs))
    return rows


def read_share(run):
    return run["decode"] * run["decode_bytes_per_token"] / run["read_bytes_per_second"]


def print_pair(name, number, threads, ours, theirs):
    line = (f"{name} {number}, {threads} threads: prefill {ours['prefill']:.0f}, decode {ours['decode']:.0f} tokens/s "
            f"({100 * read_share(ours):.0f} % of read bandwidth)")
    if theirs:
        line += (f"; llama.cpp {theirs['prefill']:.0f}, {theirs['decode']:.0f}; ratios "
                 f"{ours['prefill'] / theirs['prefill']:.2f}, {ours['decode'] / theirs['decode']:.2f}")
    print(line, flush=True)


def summary(name, parameters, threads, pairs):
    row = {"model": name, "parameters": parameters, "threads": threads,
           "read_share": statistics.median(read_share(ours) for ours, _ in pairs)}
    for key in ("prefill", "decode", "peak_bytes", "decode_bytes_per_token", "read_bytes_per_second",
                "triad_bytes_per_second"):
        row[key] = statistics.median(ours[key] for ours, _ in pairs)
    energies = [ours["decode_energy"] for ours, _ in pairs if ours["decode_energy"]]
    if energies:
        row["decode_energy"] = {"tier": energies[0]["tier"]}
        for key in ("joules", "low", "high"):
            row["decode_energy"][key] = statistics.median(energy[key] for energy in energies) / GENERATE
    if pairs[0][1]:
        row["peer_peak_bytes"] = statistics.median(theirs["peak_bytes"] for _, theirs in pairs)
        for key in ("prefill", "decode"):
            row[f"peer_{key}"] = statistics.median(theirs[key] for _, theirs in pairs)
            row[f"{key}_ratios"] = [ours[key] / theirs[key] for ours, theirs in pairs]
            row[f"{key}_ratio"] = statistics.median(row[f"{key}_ratios"])
    return row


def print_summary(rows, dtype):
    print(f"\nWeights of {dtype}:\n\n| model | threads | prefill 512, tokens/s: qtf / llama.cpp | ratio | decode 128: qtf / llama.cpp | ratio "
          "| decoding reads, GB/s | of read / triad bandwidth | peak MB: qtf / llama.cpp "
          "| mJ a decoded token: qtf / llama.cpp |\n|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [f"{row['model']} ({row['parameters'] / 1e6:.1f} M)", str(row["threads"])]
        for key in ("prefill", "decode"):
            peer = f"{row[f'peer_{key}']:.0f}" if f"peer_{key}" in row else "peer missing"
            cells += [f"{row[key]:.0f} / {peer}", f"{row[f'{key}_ratio']:.2f}" if f"{key}_ratio" in row else "-"]
        speed = row["decode"] * row["decode_bytes_per_token"]
        cells += [f"{speed / 1e9:.1f}",
                  f"{100 * row['read_share']:.0f} % / {100 * speed / row['triad_bytes_per_second']:.0f} %",
                  f"{row['peak_bytes'] / 1e6:.0f} / "
                  + (f"{row['peer_peak_bytes'] / 1e6:.0f}" if "peer_peak_bytes" in row else "peer missing"),
                  energy_cell(row)]
        print("| " + " | ".join(cells) + " |")


def energy_cell(row):
    energy = row.get("decode_energy")
    if not energy:
        return "no meter"
    cell = f"{1e3 * energy['joules']:.2f}"
    if "decode_ratio" in row:
        cell += f" / {1e3 * energy['joules'] * row['decode_ratio']:.2f}"
    return cell + f" {energy['tier']} (qtf within {1e3 * energy['low']:.2f} to {1e3 * energy['high']:.2f})"


CACHE_TYPES = ["f32", "f16", "int8", "int4"]
STARTS = [0, 896]  # tokens in the cache before 128 are decoded


def caches_row(flags, folder, threads, start):
    """Median speeds of every type of cache, the types taken in turn in each round."""
    rounds = {dtype: [] for dtype in CACHE_TYPES}
    for _ in range(flags.rounds):
        for dtype in CACHE_TYPES:
            rounds[dtype].append(median_speeds(flags, folder, threads, prompt=PROMPT, generate=GENERATE, start=start,
                                               cache_dtype=dtype))
    return {dtype: {key: statistics.median(run[key] for run in runs) for key in ("prefill", "decode", "cache_bytes")}
            for dtype, runs in rounds.items()}


def caches(flags):
    rows = []
    print("\n| model | threads | tokens before | cache | MB a text of 1024 | decode 128, tokens/s | to f32 "
          "| prefill 512, tokens/s | to f32 |\n|---|---|---|---|---|---|---|---|---|")
    for name in flags.model:
        with tempfile.TemporaryDirectory(prefix="qtf-inference-") as folder:
            make_model(flags, folder, **MODELS[name])
            for threads in flags.threads:
                for start in STARTS:
                    row = caches_row(flags, folder, threads, start)
                    rows.append({"model": name, "threads": threads, "start": start, **row})
                    for dtype, run in row.items():
                        to_floats = [run[key] / row["f32"][key] for key in ("decode", "prefill")]
                        print(f"| {name} | {threads} | {start} | {dtype} | {run['cache_bytes'] / 1e6:.2f} "
                              f"| {run['decode']:.0f} | {to_floats[0]:.2f} | {run['prefill']:.0f} "
                              f"| {to_floats[1]:.2f} |", flush=True)
    return rows


BASE = {"width": 256, "layers": 4, "vocabulary": 8192, "context": 1024, "prompt": 512, "sequences": 1, "threads": 2}
AXES = {
    "width": [64, 128, 256, 512],
    "vocabulary": [1024, 4096, 16384, 65536],
    "prompt": [32, 128, 512, 2048],  # and decoding after that many
    "sequences": [1, 2, 4, 8, 16],  # decoded together
    "threads": [1, 2],
}


def scaling_row(flags, axis, value):
    sizes = {**BASE, axis: value}
    width, prompt = sizes["width"], sizes["prompt"]
    with tempfile.TemporaryDirectory(prefix="qtf-inference-") as folder:
        parameters = make_model(flags, folder, width=width, layers=sizes["layers"], vocabulary=sizes["vocabulary"],
                                context=max(sizes["context"], prompt + GENERATE),
                                **{"feed-forward": (8 * width // 3 + 63) // 64 * 64})
        run = median_speeds(flags, folder, sizes["threads"], prompt=prompt, generate=GENERATE,
                            start=prompt if axis == "prompt" else 0, sequences=sizes["sequences"])
    return {"axis": axis, "value": value, "parameters": parameters, **run}


def print_scaling(rows):
    print(f"\nAround {', '.join(f'{key} {value}' for key, value in BASE.items())}; 128 tokens are decoded, on the axis "
          "`prompt` after as many others.\n\n| | | M parameters | prefill, tokens/s | GFLOP/s | decode, tokens/s | GB/s |"
          "\n|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['axis']} | {row['value']} | {row['parameters'] / 1e6:.2f} | {row['prefill']:.0f} | "
              f"{row['prefill'] * row['prefill_flops_per_token'] / 1e9:.0f} | {row['decode']:.0f} | "
              f"{row['decode'] * row['decode_bytes_per_token'] / 1e9:.1f} |")


def scaling(flags):
    rows = []
    for axis, values in AXES.items():
        for value in values:
            rows.append(scaling_row(flags, axis, value))
            print(f"{axis} {value}: prefill {rows[-1]['prefill']:.0f}, decode {rows[-1]['decode']:.0f} tokens/s",
                  flush=True)
    print_scaling(rows)
    return rows


def comparison(flags):
    if not flags.peer:
        print("peer missing: no --peer, our own speed only")
    rows = []
    for name in flags.model:
        with tempfile.TemporaryDirectory(prefix="qtf-inference-") as folder:
            rows += compare(flags, name, folder)
    print_summary(rows, flags.dtype)
    return rows


def main():
    flags = parse()
    for program in filter(None, (flags.qtf, flags.peer)):
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is missing: ours is built with `cmake --build --preset release --target "
                     "inference_steps`, or name it with --qtf PATH; the peer's is --peer PATH")
    where = measured_at()
    if where["load_before"] > 0.5:
        print(f"warning: load average {where['load_before']:.1f}, other programs run here; the ratios may not hold")
    print(f"{where['machine']['cpu']}, {where['machine']['cores']} cores, commit {where['commit']}")
    rows = scaling(flags) if flags.scaling else caches(flags) if flags.caches else comparison(flags)
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump({**where, "results": rows}, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())

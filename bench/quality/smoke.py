#!/usr/bin/python3
"""A test: medium and lowresource run to their tables with the smallest settings, and calling again trains nothing."""
import argparse
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def text(lines, seed):
    """Lines of made-up words, some of them repeated."""
    generator = random.Random(seed)
    words = ["".join(generator.choice("abcdefghijklmnop") for _ in range(generator.randint(2, 8))) for _ in range(300)]
    made = [" ".join(generator.choices(words, k=12)) for _ in range(lines)]
    return "\n".join(made + made[: lines // 10]) + "\n"


def run(flags, name, *words):
    command = [sys.executable, str(HERE / name), *map(str, words), "--qtf", flags.qtf, "--preset", "nano", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(condition, output):
    if not condition:
        sys.exit(f"unexpected output:\n{output}")


def works(output):
    """Whether a call trained or compressed anything."""
    return any(line.startswith(("training ", "compressing ")) for line in output.splitlines())


def run_twice(flags, name, *words):
    first, again = run(flags, name, *words), run(flags, name, *words)
    check(works(first) and "| " in first, first)
    check(not works(again) and first.endswith(again), again)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--qtf", required=True)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, out = pathlib.Path(folder) / "data", pathlib.Path(folder) / "out"
        for language in ("swahili", "basque"):
            (data / language).mkdir(parents=True)
            (data / language / "text.txt").write_text(text(1200, language))
        run_twice(flags, "lowresource", data, "--out", out / "low", "--minutes", "0.02", "--tune-minutes", "0.01",
                  "--trials", "2", "--seeds", "1,2")
        train = (out / "low/swahili/train.txt").read_text().splitlines()
        test = (out / "low/swahili/test.txt").read_text().splitlines()
        check(len(set(train)) == len(train) and not set(train) & set(test), "a line is there twice")
        for part, lines in (("train", 1200), ("valid", 100), ("test", 300)):
            (data / f"wiki.{part}.tokens").write_text(text(lines, part))
        run_twice(flags, "medium", data, "--out", out / "medium", "--minutes", "0.03", "--heal-minutes", "0.02")


if __name__ == "__main__":
    main()

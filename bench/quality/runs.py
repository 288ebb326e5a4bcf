"""Runs of qtf that can be interrupted, and tuning: what the comparisons of bench/quality share."""
import dataclasses
import itertools
import json
import math
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_QTF = ROOT / "build/release/bin/qtf"


@dataclasses.dataclass(frozen=True)
class Setting:
    rate: float = 0.003
    dropout: float = 0.1
    decay: float = 0.1

    def flags(self):
        return ["--learning-rate", f"{self.rate:g}", "--dropout", f"{self.dropout:g}", "--weight-decay",
                f"{self.decay:g}"]

    def name(self):
        return f"r{self.rate:g}-d{self.dropout:g}-w{self.decay:g}"


def steps_of(setting):
    """The moves of each coordinate, up and down, in the order in which they are tried."""
    return [
        [dataclasses.replace(setting, rate=setting.rate * 2), dataclasses.replace(setting, rate=setting.rate / 2)],
        [dataclasses.replace(setting, dropout=round(setting.dropout + 0.1, 2)),
         dataclasses.replace(setting, dropout=round(max(0, setting.dropout - 0.1), 2))],
        [dataclasses.replace(setting, decay=setting.decay * 3), dataclasses.replace(setting, decay=setting.decay / 3)],
    ]


def tune(start, loss_of, trials):
    """Coordinate descent. loss_of(setting) is a number, or None where it is not known and not to be found out.
    Returns (loss, setting) of every trial, at most `trials`."""
    tried = {}

    def attempt(setting):
        if setting in tried or len(tried) >= trials:
            return math.inf
        loss = loss_of(setting)
        if loss is None:
            raise LookupError
        tried[setting] = loss
        return loss

    try:
        best, best_loss = start, attempt(start)
        unchanged = 0
        for axis in itertools.cycle(range(3)):
            if len(tried) >= trials or unchanged == 3:
                break
            unchanged += 1
            for move in steps_of(best)[axis]:
                loss = attempt(move)
                if loss < best_loss:
                    best, best_loss, unchanged = move, loss, 0
                    break
    except LookupError:
        pass
    return [(loss, setting) for setting, loss in tried.items()]


@dataclasses.dataclass
class Measured:
    """How well a model predicts one text."""
    nats: float
    nats_error: float
    bits_per_byte: float
    word_perplexity: float

    @staticmethod
    def of(evaluation):
        return Measured(evaluation["nats_per_token"], evaluation["stderr"], evaluation["bits_per_byte"],
                        evaluation["word_perplexity"])

    def bits_error(self):
        return self.bits_per_byte * self.nats_error / self.nats

    def word_error(self):
        tokens_per_word = math.log(self.word_perplexity) / self.nats
        return self.word_perplexity * tokens_per_word * self.nats_error


class Program:
    """The program qtf, for one comparison."""

    def __init__(self, who, qtf, threads=0):
        self.who = who
        self.qtf = pathlib.Path(qtf).resolve()
        self.threads = threads
        if not self.qtf.is_file():
            sys.exit(f"{who}: {self.qtf} is not built; run ./quickstart or pass --qtf PATH")

    def call(self, *words, **options):
        return subprocess.run([str(self.qtf), *map(str, words)], check=False, text=True, **options)

    def fail(self, words, done):
        sys.exit(f"{self.who}: qtf {' '.join(map(str, words))} ended with {done.returncode}\n{done.stderr or ''}")

    def make_tokenizer(self, folder, train, valid, preset):
        """A folder whose tokenizer models share, so that their losses compare."""
        if not (folder / "README.md").exists():
            shutil.rmtree(folder, ignore_errors=True)
            words = ["train", "--train", train, "--valid", valid, "--preset", preset, "--steps", 1, "--quiet",
                     "--out", folder]
            done = self.call(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if done.returncode:
                self.fail(words, done)
        return folder

    @staticmethod
    def is_finished(folder):
        return any((folder / name).exists() for name in ("README.md", "diverged"))

    def train(self, folder, *words):
        """Begins a run, goes on with it or finds it finished. False where it diverged: the folder says so then."""
        diverged = folder / "diverged"
        if not self.is_finished(folder):
            print(f"training {folder}", flush=True)
            begin = time.time()
            self._train(folder, words)
            print(f"  {'diverged, ' if diverged.exists() else ''}{time.time() - begin:.0f} s", flush=True)
        return not diverged.exists()

    def _train(self, folder, words):
        if (folder / "checkpoint.safetensors").exists():
            words = ["train", "--resume", "--out", folder]
        else:
            shutil.rmtree(folder, ignore_errors=True)
            words = ["train", "--out", folder, *words]
        done = self.call(*words, "--threads", self.threads, "--quiet", stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE)
        if "no longer finite" in done.stderr:
            (folder / "diverged").write_text(done.stderr)
        elif done.returncode:
            self.fail(words, done)

    def evaluate(self, folder, text, name, *flags):
        """What `qtf eval --json` says of a finished model, kept in its folder as name.json."""
        kept = folder / f"{name}.json"
        if not kept.exists():
            words = ["eval", folder, "--text", text, "--json", "--threads", self.threads, *flags]
            done = self.call(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if done.returncode:
                self.fail(words, done)
            kept.write_text(done.stdout)
        return json.loads(kept.read_text())

    def info(self, folder):
        return json.loads(self.call("info", folder, "--json", stdout=subprocess.PIPE).stdout)


def commit():
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], check=False, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.strip()
    return found or "no commit"


def print_row(cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_header(cells):
    print_row(cells)
    print("|" + "---|" * len(cells))


def run_main(who, main):
    """Ctrl-C ends with a line that says what to do."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(f"{who}: interrupted; the same call goes on")

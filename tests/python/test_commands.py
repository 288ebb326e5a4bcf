import inspect
import json
import signal
import subprocess
import sys
import threading
import time

import pytest

import qtf


def test_trains_and_tells_how_far_it_is(book, tmp_path, capfd):
    heard = []
    end = qtf.train(
        train=book, out=tmp_path / "model", preset="nano", context=32, batch=2, tokenizer="bytes", steps=6,
        progress=heard.append,
    )
    lines = (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()
    assert end == json.loads(lines[-1])
    assert end["step"] == 6 and end["parameters"] == qtf.load(tmp_path / "model").parameters
    assert (heard[0].label, heard[0].done, heard[0].total) == ("model", 1, 6)
    assert heard[-1].done == 6 and heard[-1].status.startswith("loss ")
    assert capfd.readouterr() == ("", "")


def test_compresses_and_explains(tiny, book, tmp_path, capfd):
    out = tmp_path / "small"
    report = qtf.compress(tiny[0], ratio=1.5, calibrate=book, out=out)
    assert report == json.loads((out / "report.json").read_text())
    assert qtf.load(out).parameters < qtf.load(tiny[0]).parameters
    assert qtf.explain(out)["explanations"][0]["statements"]
    assert qtf.explain(out, json=False).startswith("#")
    assert qtf.audit("verify", out, json=True)["problems"] == []
    assert {"kind", "sequence"} <= set(qtf.audit("show", out, json=True)[0])
    assert qtf.info(out)["ratio"] > 1.4
    assert capfd.readouterr() == ("", "")


def test_budget_that_cannot_be_kept_is_refused(tiny, book, tmp_path, capfd):
    with pytest.raises(qtf.Refused, match="cannot be kept: max_params binds") as refused:
        qtf.budget(
            tiny[0], out=tmp_path / "budgeted", max_params=100, calibrate=book, watts=10, query="prompt=12,tokens=6",
            rounds=1, ranks=2, threads=2,
        )
    assert refused.value.result["feasible"] is False
    assert not (tmp_path / "budgeted").exists()
    assert capfd.readouterr() == ("", "")


def test_evaluates_as_the_model_does(nested, book):
    record = qtf.eval(nested.path, text=book)
    assert record["nats_per_token"] == nested.evaluate(book).nats_per_token


def test_generates_as_the_model_does(nested):
    text = "".join(token.text for token in nested.generate("The ", tokens=20, stop=["a"]))
    assert qtf.generate(nested.path, prompt="The ", tokens=20, stop=["a"]) == text + "\n"


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"stepz": 3}, TypeError, "train() got an unexpected keyword argument 'stepz'"),
        ({}, ValueError, "--train FILE is missing"),
        ({"train": "nowhere.txt", "steps": 1}, ValueError, "nowhere.txt"),
        ({"train": "a", "steps": -1}, ValueError, "--steps must be"),
        ({"train": "a", "steps": "many"}, ValueError, "many"),
        ({"train": "a", "preset": "nanoo"}, ValueError, "did you mean"),
        ({"train": ["a", "b"]}, TypeError, "train: train must be a text, a path or a number, got list"),
        ({"train": "a", "resume": 1}, TypeError, "train: resume must be True or False, got int"),
    ],
)
def test_options_are_checked_as_on_the_command_line(tmp_path, options, error, message):
    with pytest.raises(error) as raised:
        qtf.train(out=tmp_path / "model", **options)
    assert message in str(raised.value)


def test_required_arguments():
    with pytest.raises(TypeError, match="missing a required argument: 'model'"):
        qtf.info()
    with pytest.raises(ValueError, match="unknown option --nonsense"):
        qtf.commands._qtf.run_command("info", {"MODEL": ["a"], "--nonsense": [""]}, None)


def test_help_is_that_of_the_table():
    assert "ratio: " in qtf.train.__doc__ and "(nano, " in qtf.train.__doc__
    parameters = inspect.signature(qtf.compress).parameters
    assert parameters["model"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert parameters["ratio"].kind is inspect.Parameter.KEYWORD_ONLY


def test_what_progress_raises_ends_the_command(book, tmp_path):
    def stop(report):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        qtf.train(
            train=book, out=tmp_path / "model", preset="nano", tokenizer="bytes", context=32, steps=100_000,
            progress=stop,
        )


def test_commands_run_one_at_a_time(tiny, book, tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def wait(report):
        begun.set()
        go_on.wait(60)

    options = dict(preset="nano", tokenizer="bytes", context=32, batch=2, steps=3)
    thread = threading.Thread(target=qtf.train, kwargs=dict(train=book, out=tmp_path / "m", progress=wait, **options))
    thread.start()
    begun.wait(60)
    with pytest.raises(RuntimeError, match="one at a time"):
        qtf.info(tiny[0])
    go_on.set()
    thread.join()
    assert qtf.info(tiny[0])


TRAIN_UNTIL_STOPPED = """
import signal, sys, qtf
try:
    qtf.train(train=sys.argv[1], out=sys.argv[2], preset="nano", tokenizer="bytes", context=32, batch=2, steps=10**6)
except KeyboardInterrupt as stop:
    print(stop, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_ends_training_and_is_python_s_again(book, tmp_path):
    out = tmp_path / "model"
    child = subprocess.Popen(
        [sys.executable, "-c", TRAIN_UNTIL_STOPPED, book, out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (out / "metrics.jsonl").exists() or (out / "metrics.jsonl").read_text().count("\n") < 5:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    printed, traced = child.communicate(timeout=60)
    assert "Stopped at step" in printed and "--resume" in printed and printed.strip().endswith("True")
    assert "KeyboardInterrupt" in traced
    assert (out / "checkpoint.safetensors").exists() or any("checkpoint" in f.name for f in out.iterdir())

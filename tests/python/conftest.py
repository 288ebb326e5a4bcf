import os
import pathlib
import subprocess

import pytest

import qtf

MODELS = pathlib.Path(__file__).parents[2] / "models"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Where the tokens of texts are kept: not in the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def nested():
    return qtf.load(MODELS / "wikitext2-nested", threads=2)


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    lines = (f"Line {i * i % 97}: a train of tensors, na\u00efve and short.\n" for i in range(60))
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def tiny(book, tmp_path_factory):
    """The folder of a model of 4 steps, and what training it returned."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    end = qtf.train(train=book, out=out, preset="nano", context=64, batch=2, tokenizer="bytes", steps=4, threads=2)
    return out, end


@pytest.fixture(scope="session")
def program():
    """Calls the command line; gives what it prints, standard error last."""

    def call(*words):
        done = subprocess.run([os.environ["QTF_PROGRAM"], *map(str, words)], capture_output=True, check=True)
        return done.stdout.decode() + done.stderr.decode()

    return call

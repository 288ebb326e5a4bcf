#!/usr/bin/python3
# A tour of the Python package, a cell at a time: open it in an editor that knows "# %%" cells, or run it whole.
#   PYTHONPATH=build/release/python examples/python_tour.py [TEXT [STEPS]]

# %% A text to learn, and a place for what comes of it
import pathlib
import sys
import tempfile

import numpy as np

import qtf

here = pathlib.Path(__file__).resolve().parents[1]
text = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "docs" / "performance.md"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 200
folder = tempfile.TemporaryDirectory(prefix="qtf-tour-")  # gone when this program ends
place = pathlib.Path(folder.name)

# %% Train a small model. Every option of `qtf train` is a keyword; help(qtf.train) lists them
end = qtf.train(
    train=text, out=place / "dense", preset="nano", context=64, tokenizer="bytes", steps=steps,
    progress=lambda p: print(f"\r{p.label} {p.done}/{p.total} {p.status}", end=""),
)
print(f"\n{end['parameters']} parameters, {end['bits_per_byte']:.3f} bits a byte")

# %% Write with it, a token at a time
model = qtf.load(place / "dense")
print(model)
for token in model.generate("The ", tokens=80, seed=1, temperature=0.7):
    print(token.text, end="", flush=True)
print(f"\nthe last token: entropy {token.entropy:.2f}, by layer {np.round(token.entropies, 2)}")

# %% Measure it, and look at its logits
print(model.evaluate(text))
logits = model.logits(model.encode("The model"))
likely = logits[-1].argsort()[::-1][:5]
print("after 'The model':", [model.decode([token]) for token in likely])

# %% Make it smaller, with four nested levels, and ask why it came out so
report = qtf.compress(place / "dense", levels="1.2,1.5,2", calibrate=text, out=place / "small")
small = qtf.load(place / "small")
for level in range(small.levels, 0, -1):
    print(f"level {level}:", small.evaluate(text, level=level))
print(qtf.explain(place / "small", json=False)[:600])

# %% The levels that each token takes, where its attention is uncertain
for token in small.generate("The ", tokens=8, seed=1, rank_policy="entropy", mean_rank=0.5):
    print(f"{token.text!r:8} entropy {token.entropy:.2f} levels {token.levels}")

# %% A circuit: gates by name, angles that are numbers, inputs and weights
circuit = qtf.Circuit(2)
for layer in range(3):
    for wire in range(2):
        circuit.add("RY", wire, qtf.input(0) * qtf.weight(6 * layer + wire))
        circuit.add("Rot", wire, [0.1, qtf.weight(6 * layer + 2 + wire), qtf.weight(6 * layer + 4 + wire)])
    circuit.add("CNOT", [0, 1])
print(circuit.draw(100))
print(circuit.resources())

# %% It learns a wave, by gradient descent on its weights
x = np.linspace(-3, 3, 64, dtype=np.float32).reshape(-1, 1)
wanted = 0.6 * np.sin(2 * x)
weights = np.random.default_rng(1).normal(1, 0.3, circuit.weights).astype(np.float32)
for step in range(steps):
    error = circuit.run(x, weights, ["ZI"]) - wanted
    _, _, slope = circuit.vjp(2 * error / len(x), x, weights, ["ZI"])
    weights -= 0.2 * slope
print(f"mean squared error {np.mean(error**2):.4f}, of the wave itself {np.mean(wanted**2):.4f}")

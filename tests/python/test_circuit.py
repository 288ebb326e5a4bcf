import re

import numpy as np
import pytest

import qtf
from qtf import Circuit, input, weight


def layered():
    return Circuit.layered(3, 2)


def some(shape, dtype=np.float64, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def test_a_bell_state():
    bell = Circuit(2).add("Hadamard", 0).add("CNOT", [0, 1])
    assert np.allclose(bell.state(), [0.5**0.5, 0, 0, 0.5**0.5])
    assert np.allclose(bell.probabilities(), [0.5, 0, 0, 0.5])
    assert np.allclose(bell.probabilities(wires=[1]), [0.5, 0.5])
    assert np.allclose(bell.run(), [0, 0])
    assert np.allclose(bell.run(observables=["ZZ", "X0 X1"]), [1, 1])
    assert (bell.qubits, bell.inputs, bell.weights, len(bell)) == (2, 0, 0, 2)


def test_angles_are_numbers_inputs_and_weights():
    circuit = Circuit(1).add("RX", 0, 0.5 - 2 * input(0) * weight(1)).add("RX", [0], [weight(0)])
    x, w = np.array([[0.3], [0.7]]), np.array([0.1, 0.4])
    angle = 0.5 - 2 * x * w[1] + w[0]
    assert np.allclose(circuit.run(x, w), np.cos(angle))
    assert -input(0) == -1 * input(0) and input(0) + 1 == 1.0 + input(0) and input(0) != weight(0)
    with pytest.raises(ValueError, match="one or two variables"):
        (input(0) * input(1)) * input(2)
    with pytest.raises(ValueError, match="not two of them"):
        input(0) + weight(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_keep_their_type_and_shape(dtype):
    circuit = layered()
    x, w = some((5, 3), dtype), some(18, dtype)
    y = circuit.run(x, w)
    assert y.shape == (5, 3) and y.dtype == dtype
    one = circuit.run(x[2], w)
    assert one.shape == (3,) and np.allclose(one, y[2], atol=1e-6)
    states = circuit.state(x, w)
    assert states.shape == (5, 8) and states.dtype == np.result_type(dtype, np.complex64)
    p = circuit.probabilities(x, w)
    assert p.dtype == dtype and np.allclose(p, abs(states) ** 2, atol=1e-6)
    assert np.allclose(circuit.probabilities(x, w, wires=[0])[:, 0], (1 + y[:, 0]) / 2, atol=1e-6)
    assert circuit.run(x[:0], w).shape == (0, 3)


def test_gradients_are_central_differences():
    circuit, observables = layered(), ["ZII", "XXI"]
    x, w, d = some((4, 3)), some(18, seed=2), some((4, 2), seed=3)
    values, dx, dw = circuit.vjp(d, x, w, observables)
    assert np.array_equal(values, circuit.run(x, w, observables))
    h = 1e-6

    def slope(of, at):
        def moved(by):
            there = at.copy()
            there.flat[i] += by
            return (d * circuit.run(*((there, w) if of == "x" else (x, there)), observables)).sum()

        result = np.empty_like(at)
        for i in range(at.size):
            result.flat[i] = (moved(h) - moved(-h)) / (2 * h)
        return result

    assert np.allclose(dx, slope("x", x), atol=1e-8)
    assert np.allclose(dw, slope("w", w), atol=1e-8)


def test_what_was_compiled_follows_the_gates():
    circuit = Circuit(1).add("RX", 0, input(0))
    x = np.array([[0.3]])
    before = circuit.run(x)
    circuit.add("RX", 0, 0.2)
    assert np.allclose(before, np.cos(0.3)) and np.allclose(circuit.run(x), np.cos(0.5))
    assert np.allclose(circuit.run(x, observables=["Y"]), -np.sin(0.5))
    assert np.allclose(circuit.run(x), np.cos(0.5))


def test_reads_and_writes_qasm_and_draws():
    circuit = layered()
    assert Circuit.from_qasm(circuit.qasm()) == circuit
    assert circuit != Circuit(3)
    assert circuit.draw().splitlines()[0].startswith("q0: ")
    assert circuit.svg().startswith("<svg") and circuit._repr_svg_() == circuit.svg()
    assert "measure" in circuit.qasm(measure=True)
    assert repr(circuit) == "<qtf.Circuit of 3 qubits, 15 gates, 3 inputs, 18 weights>"
    resources = circuit.resources()
    assert resources["two_qubit_gates"] == 6 and resources["by_gate"]["Rot"] == 6


def test_other_ways_to_begin_and_go_on():
    flip = np.array([[0, 1], [1, 0]], complex)
    assert np.allclose(Circuit(2).add_unitary(flip, 1).state(), [0, 1, 0, 0])
    assert np.allclose(Circuit(2).embed_amplitudes(3).state(np.array([3.0, 0, 4.0])), [0.6, 0, 0.8, 0])
    circuit = Circuit(1).add("RX", 0, 0.1)
    assert len(circuit.append(circuit)) == 2
    assert qtf.gates()["Rot"] == {"wires": 1, "angles": 3}
    assert all(name in qtf.gates() for name in ("RX", "CNOT", "Toffoli"))


def bad_arrays():
    good = some((4, 3))
    yield good.astype(np.int64), "inputs must be a numpy array of float64, got int64"
    yield good.astype(np.float16), "got float16"
    yield good.astype(">f8"), "got >f8"
    yield good.tolist(), "got list; numpy.asarray(x, 'float64') makes one"
    yield some((3, 4)).T, "make it so with numpy.ascontiguousarray"
    yield some((4, 6))[:, ::2], "got strides (48, 16) of shape (4, 3)"
    yield some((4, 6))[:, :3], "row after row"
    yield np.frombuffer(bytearray(97), np.uint8)[1:].view(np.float64).reshape(4, 3), "numpy.copy(x) does"
    yield some((4, 2)), "must have the shape (rows, 3), or (3,) for one row, got (4, 2)"
    yield some((1, 4, 3)), "got (1, 4, 3)"
    yield np.float64(1), "got "
    yield good.astype(np.float32), "weights must be a numpy array of float32, got float64"
    yield np.full((4, 3), np.nan), "nan"
    yield None, "inputs are missing: the circuit has 3"


@pytest.mark.parametrize("inputs, message", bad_arrays())
def test_bad_inputs_are_value_errors(inputs, message):
    circuit, w = layered(), some(18)
    calls = (
        lambda: circuit.run(inputs, w),
        lambda: circuit.state(inputs, w),
        lambda: circuit.probabilities(inputs, w),
        lambda: circuit.vjp(some((4, 3)).astype(getattr(inputs, "dtype", np.float64)), inputs, w),
    )
    for call in calls:
        with pytest.raises(ValueError, match="(?i)" + re.escape(message)):
            call()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda c, x, w: c.run(x, w[:4]), "weights must have the shape (18,), got (4,)"),
        (lambda c, x, w: c.run(x), "weights are missing: the circuit has 18"),
        (lambda c, x, w: c.run(x, w[::-1]), "weights must lie in memory"),
        (lambda c, x, w: c.run(x, w, ["QQQ"]), "Q"),
        (lambda c, x, w: c.probabilities(x, w, [7]), "7"),
        (lambda c, x, w: c.probabilities(x, w, [0] * 70), "wire 0 is given twice"),
        (lambda c, x, w: c.vjp(some((4, 2)), x, w), "derivative must have the shape (rows, 3)"),
        (lambda c, x, w: c.vjp(some((3, 3)), x, w), "derivative has 3 rows, the inputs have 4"),
        (lambda c, x, w: c.vjp(some((4, 3), np.float32), x, w), "derivative must be a numpy array of float64"),
        (lambda c, x, w: c.add("RXX", 0), "there is no gate 'RXX'"),
        (lambda c, x, w: c.add("RX", 9, 0.1), "9"),
        (lambda c, x, w: c.add("RX", 0), "angle"),
        (lambda c, x, w: c.add_unitary(np.eye(2), 0), "matrix must be a numpy array of complex128, got float64"),
        (lambda c, x, w: c.add_unitary(np.ones((2, 3), complex), 0), "square"),
        (lambda c, x, w: c.add_unitary(np.ones((2, 2), complex), 0), "unitary"),
        (lambda c, x, w: Circuit(40), "40"),
        (lambda c, x, w: Circuit.layered(2, ansatz="strong"), "strong"),
        (lambda c, x, w: Circuit.from_qasm("OPENQASM 3;\nqubit[1] q;\nhh q[0];"), "hh"),
    ],
)
def test_bad_calls_are_value_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(layered(), some((4, 3)), some(18))

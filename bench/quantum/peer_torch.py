#!/usr/bin/python3
"""A peer for bench/quantum: the same circuits in PyTorch, gate by gate over the batch, gradients by autograd.

  bench/quantum/peer_torch.py WORK.json ANSWER.json
WORK: qubits, layers, tokens, rounds, x and dy [tokens, qubits], w [layers, qubits, 3].
ANSWER: y, dx, dw, and the median seconds of one forward pass and of one with gradients, on one thread.
"""
import json
import statistics
import sys
import time

import torch


def rotation_y(angle):
    c, s = torch.cos(angle / 2), torch.sin(angle / 2)
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2).to(torch.complex64)


def rotation_z(angle):
    phase = torch.exp(-0.5j * angle)
    zero = torch.zeros_like(phase)
    return torch.stack([torch.stack([phase, zero], -1), torch.stack([zero, phase.conj()], -1)], -2)


def apply(state, matrix, wire):
    """matrix [2, 2] or [tokens, 2, 2] on axis 1 + wire of state [tokens, 2, ..., 2]."""
    moved = state.movedim(1 + wire, 1)
    flat = moved.reshape(moved.shape[0], 2, -1)
    return (matrix @ flat).reshape(moved.shape).movedim(1, 1 + wire)


def cnot(state, control, target):
    zero, one = state.unbind(1 + control)
    axis = 1 + target - (1 if target > control else 0)
    return torch.stack([zero, one.flip(axis)], 1 + control)


def expectations(x, w, layers):
    tokens, n = x.shape
    state = torch.zeros([tokens] + [2] * n, dtype=torch.complex64)
    state[(slice(None),) + (0,) * n] = 1
    for wire in range(n):
        state = apply(state, rotation_y(x[:, wire]), wire)
    for layer in range(layers):
        for wire in range(n):
            phi, theta, omega = w[layer, wire]
            state = apply(state, rotation_z(omega) @ rotation_y(theta) @ rotation_z(phi), wire)
        reach = layer % max(n - 1, 1) + 1
        for wire in range(n if n > 1 else 0):
            state = cnot(state, wire, (wire + reach) % n)
    probabilities = state.real**2 + state.imag**2
    columns = []
    for wire in range(n):
        zero, one = probabilities.unbind(1 + wire)
        columns.append((zero - one).reshape(tokens, -1).sum(1))
    return torch.stack(columns, 1)


def median_seconds(call, rounds):
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main(work_file, answer_file):
    torch.set_num_threads(1)
    with open(work_file) as file:
        work = json.load(file)
    n, layers, tokens = work["qubits"], work["layers"], work["tokens"]
    x = torch.tensor(work["x"]).reshape(tokens, n).requires_grad_()
    w = torch.tensor(work["w"]).reshape(layers, n, 3).requires_grad_()
    dy = torch.tensor(work["dy"]).reshape(tokens, n)

    def forward():
        with torch.no_grad():
            expectations(x, w, layers)

    def gradients():
        y = expectations(x, w, layers)
        return y, torch.autograd.grad(y, [x, w], dy)

    y, (dx, dw) = gradients()
    rounds = min(work["rounds"], 5)
    answer = {name: value.detach().flatten().tolist() for name, value in [("y", y), ("dx", dx), ("dw", dw)]}
    answer["forward_seconds"] = median_seconds(forward, rounds)
    answer["vjp_seconds"] = median_seconds(gradients, rounds)
    with open(answer_file, "w") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])

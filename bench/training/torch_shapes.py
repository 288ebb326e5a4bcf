"""Linear maps of qtf's weight shapes in PyTorch, as a user would write them, for torch_gpt2.py.

The tensors' names and dims say the shape: X.weight [out, in] is dense; cores X.core.0 (1, out, r), X.core.1 (r, in, 1)
are a chain; X.core.0 (1, n1, m1, r), X.core.1 (r, n2, m2, 1) are an interleaved tensor train (mpo) of two cores.
Every core has the step size that qtf gives it, as `rate_scale` (tt/weight_shape.h, learning_rate_scale).
"""
import torch
from torch import nn
from torch.nn import functional as F


def core(values, width, fan_in):
    """A core of a map of two, whose input has `width` numbers."""
    parameter = nn.Parameter(torch.empty_like(values))
    parameter.rate_scale = width / fan_in / 2
    return parameter


class Cores(nn.Module):
    """A map of two cores, which state_dict names core.0 and core.1."""

    def __init__(self, cores, width, fan_ins, out):
        super().__init__()
        self.core = nn.ParameterList([core(values, width, fan_in) for values, fan_in in zip(cores, fan_ins)])
        self.bias = nn.Parameter(torch.empty(out))


class Chain(Cores):

    def __init__(self, first, second):
        _, out, rank = first.shape
        width = second.shape[1]
        super().__init__([first, second], width, [rank, width], out)

    def forward(self, x):
        return F.linear(F.linear(x, self.core[1][:, :, 0]), self.core[0][0], self.bias)


class Mpo(Cores):
    """W[(p q), (i j)] = G1[p, i, r] · G2[r, q, j]."""

    def __init__(self, first, second, how):
        (_, n1, m1, rank), (_, n2, m2, _) = first.shape, second.shape
        super().__init__([first, second], m1 * m2, [m1 * rank, m2], n1 * n2)
        self.how, self.modes = how, (m1, m2)
        # Which core is cheaper to apply first: as many products over its own mode, then over the other.
        self.second_first = m1 * m2 * n2 + m1 * n1 * n2 <= m1 * m2 * n1 + m2 * n1 * n2

    def forward(self, x):
        first, second = self.core[0][0], self.core[1][..., 0]
        if self.how == "rebuild":
            w = torch.einsum("pir,rqj->pqij", first, second)
            return F.linear(x, w.reshape(self.bias.numel(), x.shape[-1]), self.bias)
        z = x.reshape(-1, *self.modes)
        if self.second_first:
            y = torch.einsum("birq,pir->bpq", torch.einsum("bij,rqj->birq", z, second), first)
        else:
            y = torch.einsum("bpjr,rqj->bpq", torch.einsum("bij,pir->bpjr", z, first), second)
        return y.reshape(*x.shape[:-1], -1) + self.bias


class Embedding(nn.Embedding):

    def logits(self, hidden):
        return F.linear(hidden, self.weight)


class ChainEmbedding(nn.Module):
    """A tied embedding and head as a chain: rows of U, then V."""

    def __init__(self, first, second):
        super().__init__()
        width = second.shape[1]
        self.core = nn.ParameterList([core(first, width, first.shape[2]), core(second, width, width)])

    def forward(self, tokens):
        return F.embedding(tokens, self.core[0][0]) @ self.core[1][:, :, 0]

    def logits(self, hidden):
        return F.linear(F.linear(hidden, self.core[1][:, :, 0]), self.core[0][0])


def make_linear(state, name, how):
    """The map X of a model whose tensors are `state`; values come by load_state_dict."""
    if name + ".weight" in state:
        out, width = state[name + ".weight"].shape
        return nn.Linear(width, out)
    cores = (state[name + ".core.0"], state[name + ".core.1"])
    return Chain(*cores) if cores[0].dim() == 3 else Mpo(*cores, how)


def make_embedding(state, name):
    if name + ".weight" in state:
        return Embedding(*state[name + ".weight"].shape)
    return ChainEmbedding(state[name + ".core.0"], state[name + ".core.1"])

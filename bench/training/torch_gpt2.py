#!/usr/bin/python3
"""The PyTorch side of bench/training/: a GPT-2-family model as a PyTorch user would write it well.

  torch_gpt2.py init  --out DIR [sizes]       writes a model folder and batches that both sides read
  torch_gpt2.py train --model DIR --batches FILE --steps N ...
                                              prints one JSON object, with the keys of training_steps

Plain PyTorch 1.13 (Debian's python3-torch), float32, no dropout. `init` needs NumPy only. A folder whose maps are
tensor trains (`training_steps --write-to`) is trained as such: torch_shapes.py.
"""
import argparse
import json
import math
import os
import resource
import sys
import time

import numpy as np


# ---- Files that both sides read -----------------------------------------------------------------------------


def write_safetensors(path, tensors):
    """Writes {name: float32 array} as safetensors."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, dtype="<f4").tobytes())


def read_safetensors(path):
    """Reads a file of F32 tensors as {name: array}."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], dtype="<f4").reshape(entry["shape"])
        for name, entry in header.items()
    }


def initial_weights(random, layers, width, vocab, context):
    """Weights as GPT-2 draws them, by Hugging Face's names; c_* maps are [in, out]. Norms and biases are moved
    off their usual 1 and 0, so that a side that forgets one is found out."""

    def normal(*shape, std=0.02, mean=0.0):
        return (mean + std * random.standard_normal(shape)).astype(np.float32)

    def norm(prefix):
        return {prefix + ".weight": normal(width, mean=1), prefix + ".bias": normal(width)}

    residual = 0.02 / math.sqrt(2 * layers)
    weights = {"transformer.wte.weight": normal(vocab, width), "transformer.wpe.weight": normal(context, width)}
    for layer in range(layers):
        block = f"transformer.h.{layer}"
        maps = [("attn.c_attn", width, 3 * width, 0.02), ("attn.c_proj", width, width, residual),
                ("mlp.c_fc", width, 4 * width, 0.02), ("mlp.c_proj", 4 * width, width, residual)]
        weights.update(norm(f"{block}.ln_1"))
        weights.update(norm(f"{block}.ln_2"))
        for name, rows, columns, std in maps:
            weights[f"{block}.{name}.weight"] = normal(rows, columns, std=std)
            weights[f"{block}.{name}.bias"] = normal(columns)
    weights.update(norm("transformer.ln_f"))
    return weights


def make_batches(random, steps, batch, context, vocab):
    """int32 [steps, batch, context + 1]: half Zipf draws, half a fixed successor of the token before, so that
    there is something to learn at once and later."""
    shape = (steps, batch, context + 1)
    successor = random.permutation(vocab)
    chances = 1 / np.arange(1, vocab + 1)
    tokens = random.choice(vocab, size=shape, p=chances / chances.sum())
    follows = random.random(shape) < 0.5
    for t in range(1, context + 1):
        tokens[:, :, t] = np.where(follows[:, :, t], successor[tokens[:, :, t - 1]], tokens[:, :, t])
    return tokens.astype("<i4")


def init(flags):
    if flags.width % flags.heads:
        sys.exit(f"torch_gpt2.py: --heads {flags.heads} does not divide --width {flags.width}")
    os.makedirs(flags.out, exist_ok=True)
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": flags.vocab,
        "n_embd": flags.width, "n_layer": flags.layers, "n_head": flags.heads, "n_positions": flags.context,
        "n_inner": 4 * flags.width, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
        "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None, "torch_dtype": "float32",
    }
    with open(os.path.join(flags.out, "config.json"), "w") as file:
        json.dump(config, file, indent=2)
    random = np.random.default_rng(flags.seed)
    weights = initial_weights(random, flags.layers, flags.width, flags.vocab, flags.context)
    write_safetensors(os.path.join(flags.out, "model.safetensors"), weights)
    batches = make_batches(random, flags.steps, flags.batch, flags.context, flags.vocab)
    batches.tofile(os.path.join(flags.out, "batches.i32"))


# ---- The model ----------------------------------------------------------------------------------------------


def define_model(make_linear, make_embedding):
    """The model's class; make_linear(name) and make_embedding(name) give its maps by their tensors' name. In a
    function, because `init` must work without PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Attention(nn.Module):
        """The mask is added by baddbmm, so that scale and mask need no passes of their own. Of the obvious ways in
        1.13 (masked_fill, adding, _scaled_dot_product_attention) none is clearly faster: at D256 the others take
        2 to 6 % longer, at D128 they differ by less than their noise."""

        def __init__(self, at, width, heads, context):
            super().__init__()
            self.heads, self.scale = heads, 1 / math.sqrt(width // heads)
            self.c_attn = make_linear(at + ".c_attn")
            self.c_proj = make_linear(at + ".c_proj")
            mask = torch.full((context, context), float("-inf")).triu(1)
            self.register_buffer("mask", mask, persistent=False)

        def forward(self, x):
            batch, time_steps, width = x.shape
            q, k, v = (
                part.view(batch, time_steps, self.heads, -1).transpose(1, 2).reshape(batch * self.heads, time_steps, -1)
                for part in self.c_attn(x).split(width, dim=2))
            scores = torch.baddbmm(self.mask[:time_steps, :time_steps], q, k.transpose(1, 2), alpha=self.scale)
            y = torch.bmm(F.softmax(scores, dim=-1), v)
            y = y.view(batch, self.heads, time_steps, -1).transpose(1, 2).reshape(batch, time_steps, width)
            return self.c_proj(y)

    class FeedForward(nn.Module):

        def __init__(self, at):
            super().__init__()
            self.c_fc = make_linear(at + ".c_fc")
            self.c_proj = make_linear(at + ".c_proj")

        def forward(self, x):
            return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))

    class Block(nn.Module):

        def __init__(self, config, at):
            super().__init__()
            width, epsilon = config["n_embd"], config["layer_norm_epsilon"]
            self.ln_1 = nn.LayerNorm(width, epsilon)
            self.attn = Attention(at + ".attn", width, config["n_head"], config["n_positions"])
            self.ln_2 = nn.LayerNorm(width, epsilon)
            self.mlp = FeedForward(at + ".mlp")

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class Gpt2(nn.Module):

        def __init__(self, config):
            super().__init__()
            width = config["n_embd"]
            self.wte = make_embedding("wte")
            self.wpe = nn.Embedding(config["n_positions"], width)
            self.h = nn.ModuleList(Block(config, f"h.{layer}") for layer in range(config["n_layer"]))
            self.ln_f = nn.LayerNorm(width, config["layer_norm_epsilon"])

        def forward(self, tokens, targets):
            """Mean nats per token of targets[B, T] after tokens[B, T]."""
            x = self.wte(tokens) + self.wpe.weight[:tokens.shape[1]]
            for block in self.h:
                x = block(x)
            logits = self.wte.logits(self.ln_f(x))
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return Gpt2


def load_model(folder, mpo):
    """A model from a folder of `init` or `training_steps --write-to` (or any plain Hugging Face GPT-2 folder in
    F32). mpo: how interleaved tensor trains are applied, "einsum" or "rebuild"."""
    import torch

    import torch_shapes
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    state = {}
    for name, values in read_safetensors(os.path.join(folder, "model.safetensors")).items():
        is_dense_map = ".c_" in name and name.endswith(".weight")
        state[name.removeprefix("transformer.")] = torch.tensor(values.T.copy() if is_dense_map else values)
    model = define_model(lambda name: torch_shapes.make_linear(state, name, mpo),
                         lambda name: torch_shapes.make_embedding(state, name))(config)
    model.load_state_dict(state)
    return model


def make_optimizer(model, flags):
    """AdamW with decay on every tensor of two dims or more; a core has the step size that qtf gives it. foreach is as
    fast as the plain loop or 3 % faster (D256)."""
    import torch
    groups = {}
    for p in model.parameters():
        scale = getattr(p, "rate_scale", 1.0)
        groups.setdefault((scale, p.dim() >= 2), []).append(p)
    groups = [{"params": params, "lr": flags.learning_rate * scale,
               "weight_decay": flags.weight_decay / scale if decay else 0.0}
              for (scale, decay), params in groups.items()]
    return torch.optim.AdamW(groups, betas=(flags.beta1, flags.beta2), eps=1e-8, foreach=True)


def train(flags):
    import torch
    torch.set_num_threads(flags.threads)
    model = load_model(flags.model, flags.mpo)
    optimizer = make_optimizer(model, flags)
    batches = np.fromfile(flags.batches, dtype="<i4", count=flags.steps * flags.batch * (flags.context + 1))
    batches = torch.from_numpy(batches.astype(np.int64)).view(flags.steps, flags.batch, flags.context + 1)
    losses, seconds = [], []
    for tokens in batches:
        start = time.perf_counter()
        loss = model(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), flags.clip)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    settled = seconds[2:] if len(seconds) > 2 else seconds  # the first steps touch memory for the first time
    print(json.dumps({
        "losses": losses,
        "step_seconds": seconds,
        "tokens_per_second": flags.batch * flags.context / float(np.median(settled)),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


# ---- Command line -------------------------------------------------------------------------------------------


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("init", help="write a model folder with random weights, and batches")
    make.add_argument("--out", required=True, help="folder to write")
    for name, default in [("layers", 2), ("width", 64), ("heads", 4), ("vocab", 512), ("context", 64),
                          ("steps", 20), ("batch", 8), ("seed", 1)]:
        make.add_argument("--" + name, type=int, default=default)
    run = commands.add_parser("train", help="train on given batches, print losses and times")
    run.add_argument("--model", required=True, help="folder with config.json and model.safetensors")
    run.add_argument("--batches", required=True, help="raw int32 tokens [steps][batch][context + 1]")
    run.add_argument("--mpo", choices=["einsum", "rebuild"], default="einsum",
                     help="apply interleaved tensor trains core by core, or multiply W out once a step")
    for name, default in [("steps", 20), ("batch", 8), ("context", 64), ("threads", 2)]:
        run.add_argument("--" + name, type=int, default=default)
    for name, default in [("learning-rate", 1e-3), ("beta1", 0.9), ("beta2", 0.95), ("weight-decay", 0.1), ("clip", 1.0)]:
        run.add_argument("--" + name, type=float, default=default)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    chosen = parse()
    init(chosen) if chosen.command == "init" else train(chosen)

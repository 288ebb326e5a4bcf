#!/usr/bin/python3
"""Makes small random models in other programs' formats, and the logits that they must give.

  make_golden_models.py            writes the models and logits.json beside this script
  make_golden_models.py --check    exit status 1 if what is there differs

An implementation of its own: the formats as published, forward passes in float64 with NumPy, quantizers and
tokenizer files by hand. It shares nothing with qtf. Weights are those that are stored, rounded as their type is.
"""
import json
import math
import pathlib
import struct
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SMALL = 0.1  # embeddings of models that generate: a tied one of size 1 would only repeat its last token
TOKENS = [1, 17, 3, 39, 17, 5, 22, 0, 38]


# ---- Number formats: bytes of a float64 array, and the numbers that they hold --------------------------------


def f32(x):
    stored = x.astype("<f4")
    return stored.tobytes(), stored.astype(np.float64)


def f16(x):
    stored = x.astype("<f2")
    return stored.tobytes(), stored.astype(np.float64)


def bf16(x):
    bits = x.astype("<f4").view("<u4")
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return upper.tobytes(), (upper.astype("<u4") << 16).view("<f4").astype(np.float64)


def q8_0(x):
    data, numbers = b"", []
    for block in x.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 127)
        q = np.clip(np.round(block / float(scale)), -127, 127).astype(np.int8)
        data += scale.tobytes() + q.tobytes()
        numbers.append(q.astype(np.float64) * float(scale))
    return data, np.concatenate(numbers).reshape(x.shape)


def q4_0(x):
    data, numbers = b"", []
    for block in x.reshape(-1, 32):
        scale = np.float16(block[np.abs(block).argmax()] / -8)
        q = np.clip(np.floor(block / float(scale) + 8.5), 0, 15).astype(np.uint8)
        data += scale.tobytes() + (q[:16] | (q[16:] << 4)).tobytes()
        numbers.append((q.astype(np.float64) - 8) * float(scale))
    return data, np.concatenate(numbers).reshape(x.shape)


# ---- The two families: weights by Hugging Face's names, [out, in]; forward passes ----------------------------


class Llama:
    def __init__(self, seed, vocabulary=40, width=32, layers=1, heads=4, kv_heads=2, hidden=32, tied=False, theta=10000.0,
                 eps=1e-5, embedding=1.0):
        self.__dict__.update(vocabulary=vocabulary, width=width, layers=layers, heads=heads, kv_heads=kv_heads,
                             hidden=hidden, tied=tied, theta=theta, eps=eps, context=24)
        random = np.random.RandomState(seed)
        kv = width // heads * kv_heads

        def matrix(out, inside):
            return random.standard_normal((out, inside)) / math.sqrt(inside) * 1.5

        def norm():
            return 1 + 0.2 * random.standard_normal(width)

        self.w = {"model.embed_tokens.weight": embedding * random.standard_normal((vocabulary, width))}
        for layer in range(layers):
            p = f"model.layers.{layer}."
            self.w[p + "input_layernorm.weight"] = norm()
            for name, out in (("q", width), ("k", kv), ("v", kv), ("o", width)):
                self.w[f"{p}self_attn.{name}_proj.weight"] = matrix(out, width)
            self.w[p + "post_attention_layernorm.weight"] = norm()
            self.w[p + "mlp.gate_proj.weight"] = matrix(hidden, width)
            self.w[p + "mlp.up_proj.weight"] = matrix(hidden, width)
            self.w[p + "mlp.down_proj.weight"] = matrix(width, hidden)
        self.w["model.norm.weight"] = norm()
        if not tied:
            self.w["lm_head.weight"] = matrix(vocabulary, width)

    def config(self, dtype):
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": self.vocabulary,
            "hidden_size": self.width, "intermediate_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.context, "rms_norm_eps": self.eps, "rope_theta": self.theta,
            "tie_word_embeddings": self.tied, "hidden_act": "silu", "torch_dtype": dtype, "rope_scaling": None,
            "bos_token_id": None, "eos_token_id": 2,
        }

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name + ".weight"]

    def rotate(self, x, heads):
        """Rows i and i + d/2 of each head turn by position · theta^(-2i/d)."""
        d = self.width // self.heads
        x = x.reshape(len(x), heads, 2, d // 2)
        angle = np.arange(len(x))[:, None] * self.theta ** (-2 * np.arange(d // 2) / d)
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        return np.stack([x[:, :, 0] * c - x[:, :, 1] * s, x[:, :, 1] * c + x[:, :, 0] * s], 2).reshape(len(x), heads, d)

    def logits(self, tokens):
        w = self.w
        x = w["model.embed_tokens.weight"][tokens]
        for layer in range(self.layers):
            p = f"model.layers.{layer}."
            h = self.norm(x, p + "input_layernorm")
            q = self.rotate(h @ w[p + "self_attn.q_proj.weight"].T, self.heads)
            k = self.rotate(h @ w[p + "self_attn.k_proj.weight"].T, self.kv_heads)
            v = (h @ w[p + "self_attn.v_proj.weight"].T).reshape(len(x), self.kv_heads, -1)
            x = x + attention(q, k, v) @ w[p + "self_attn.o_proj.weight"].T
            h = self.norm(x, p + "post_attention_layernorm")
            gate = h @ w[p + "mlp.gate_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
        head = w["model.embed_tokens.weight" if self.tied else "lm_head.weight"]
        return self.norm(x, "model.norm") @ head.T


class Gpt2:
    def __init__(self, seed, vocabulary=40, width=32, layers=1, heads=2, hidden=48, tied=True, embedding=1.0):
        self.__dict__.update(vocabulary=vocabulary, width=width, layers=layers, heads=heads, hidden=hidden, tied=tied,
                             eps=1e-5, context=24)
        random = np.random.RandomState(seed)

        def linear(prefix, out, inside):
            self.w[prefix + ".weight"] = random.standard_normal((out, inside)) / math.sqrt(inside) * 1.5
            self.w[prefix + ".bias"] = 0.3 * random.standard_normal(out)

        def norm(prefix):
            self.w[prefix + ".weight"] = 1 + 0.2 * random.standard_normal(width)
            self.w[prefix + ".bias"] = 0.2 * random.standard_normal(width)

        self.w = {"transformer.wte.weight": embedding * random.standard_normal((vocabulary, width)),
                  "transformer.wpe.weight": 0.5 * random.standard_normal((self.context, width))}
        for layer in range(layers):
            p = f"transformer.h.{layer}."
            norm(p + "ln_1")
            linear(p + "attn.c_attn", 3 * width, width)
            linear(p + "attn.c_proj", width, width)
            norm(p + "ln_2")
            linear(p + "mlp.c_fc", hidden, width)
            linear(p + "mlp.c_proj", width, hidden)
        norm("transformer.ln_f")
        if not tied:
            self.w["lm_head.weight"] = random.standard_normal((vocabulary, width)) / math.sqrt(width) * 1.5

    def config(self, dtype):
        return {
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": self.vocabulary,
            "n_embd": self.width, "n_inner": self.hidden, "n_layer": self.layers, "n_head": self.heads,
            "n_positions": self.context, "layer_norm_epsilon": self.eps, "activation_function": "gelu_new",
            "tie_word_embeddings": self.tied, "torch_dtype": dtype, "bos_token_id": None,
            "eos_token_id": self.vocabulary - 1,
        }

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + self.eps)
        return scaled * self.w[name + ".weight"] + self.w[name + ".bias"]

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def logits(self, tokens):
        x = self.w["transformer.wte.weight"][tokens] + self.w["transformer.wpe.weight"][: len(tokens)]
        for layer in range(self.layers):
            p = f"transformer.h.{layer}."
            q, k, v = np.split(self.linear(self.norm(x, p + "ln_1"), p + "attn.c_attn"), 3, axis=1)
            heads = [part.reshape(len(x), self.heads, -1) for part in (q, k, v)]
            x = x + self.linear(attention(*heads), p + "attn.c_proj")
            h = self.linear(self.norm(x, p + "ln_2"), p + "mlp.c_fc")
            h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
            x = x + self.linear(h, p + "mlp.c_proj")
        head = self.w["transformer.wte.weight" if self.tied else "lm_head.weight"]
        return self.norm(x, "transformer.ln_f") @ head.T


def attention(q, k, v):
    """[T, heads, d] each, k and v perhaps with fewer heads -> [T, heads · d]"""
    group = q.shape[1] // k.shape[1]
    out = np.zeros_like(q)
    for t in range(len(q)):
        for head in range(q.shape[1]):
            scores = k[: t + 1, head // group] @ q[t, head] / math.sqrt(q.shape[2])
            p = np.exp(scores - scores.max())
            out[t, head] = p / p.sum() @ v[: t + 1, head // group]
    return out.reshape(len(q), -1)


# ---- Hugging Face folders ------------------------------------------------------------------------------------


def write_safetensors(path, tensors):
    """tensors: {name: (dtype, shape, bytes)}"""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def is_conv1d(name):
    return ".c_" in name and name.endswith(".weight")


def stored(model, dtype, encode):
    """Rounds the model's weights and gives them as safetensors have them, Conv1D [in, out]."""
    tensors = {}
    for name, x in model.w.items():
        data, model.w[name] = encode(x)
        if is_conv1d(name):
            data = encode(np.ascontiguousarray(x.T))[0]
            x = x.T
        tensors[name] = (dtype, x.shape, data)
    return tensors


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def folder(out, name):
    path = out / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def hf_llama(out):
    model = Llama(1, layers=2, theta=5000.0, eps=1e-6)
    path = folder(out, "hf_llama")
    write_safetensors(path / "model.safetensors", stored(model, "F32", f32))
    write_json(path / "config.json", model.config("float32"))
    return model


def quiet(rows, w):
    """Makes tokens improbable, so that greedy text is readable: their logits stay near 0."""
    w[rows] *= 0.01


def hf_llama_shards(out):
    """BF16, tied, two shards and an index, a SentencePiece BPE tokenizer rewritten as tokenizer.json."""
    tokens, merges = sentencepiece_like()
    model = Llama(2, vocabulary=len(tokens), tied=True, embedding=SMALL)
    quiet(slice(0, 3 + 256), model.w["model.embed_tokens.weight"])
    path = folder(out, "hf_llama_shards")
    tensors = stored(model, "BF16", bf16)
    names = list(tensors)
    shards = [names[: len(names) // 2], names[len(names) // 2 :]]
    weight_map = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        write_safetensors(path / file, {name: tensors[name] for name in shard})
        weight_map.update((name, file) for name in shard)
    total = sum(len(data) for _, _, data in tensors.values())
    write_json(path / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    write_json(path / "config.json", dict(model.config("bfloat16"), bos_token_id=1))
    write_json(path / "tokenizer.json", {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": tokens[i], "special": True} for i in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None,
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges},
    })
    return model


WORDS = ["the", "cat", "hat", "and", "rain", "tea"]


def sentencepiece_like():
    """Tokens, and merges as Hugging Face's converter lists them: every cut of a token in two, by token."""
    words = ["▁" + word for word in WORDS]
    letters = sorted({letter for word in words for letter in word} | {".", ","})
    longer = []
    for length in range(2, max(map(len, words)) + 1):
        longer += sorted({word[:length] for word in words if len(word) >= length} - set(longer))
    known = set(letters) | set(longer)
    merges = [f"{token[:i]} {token[i:]}" for token in longer for i in range(1, len(token))
              if token[:i] in known and token[i:] in known]
    return ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + longer + letters, merges


def hf_gpt2(out):
    """F16, tied, names without "transformer.", causal masks among the tensors, vocab.json and merges.txt."""
    tokens, merges = byte_level()
    model = Gpt2(3, vocabulary=len(tokens), embedding=SMALL)
    quiet([i for i, token in enumerate(tokens) if not token.isascii() and len(token) == 1],
          model.w["transformer.wte.weight"])
    path = folder(out, "hf_gpt2")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in stored(model, "F16", f16).items()}
    mask = np.tril(np.ones((1, 1, model.context, model.context)))
    tensors["h.0.attn.bias"] = ("F32", mask.shape, f32(mask)[0])
    tensors["h.0.attn.masked_bias"] = ("F32", (), f32(np.array(-1e4))[0])
    write_safetensors(path / "model.safetensors", tensors)
    write_json(path / "config.json", model.config("float16"))
    write_json(path / "vocab.json", {token: i for i, token in enumerate(tokens)})
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return model


def byte_level():
    printable = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    others = iter(range(256, 512))
    tokens = [chr(b) if b in printable else chr(next(others)) for b in range(256)]
    merges = []
    for word in WORDS:
        parts = [tokens[ord(" ")]] + list(word)
        while len(parts) > 1:
            merge = f"{parts[0]} {parts[1]}"
            if merge not in merges:
                merges.append(merge)
                tokens.append(parts[0] + parts[1])
            parts = [parts[0] + parts[1]] + parts[2:]
    return tokens + ["<|endoftext|>"], merges


# ---- GGUF and llama2.c: rotary pairs are rows 2i and 2i + 1 --------------------------------------------------


def in_pairs(model, name, x):
    """The rows of q and k reordered from i, i + d/2 to 2i, 2i + 1."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return x
    d = model.width // model.heads
    return np.ascontiguousarray(x.reshape(-1, 2, d // 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape))


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}
GGUF_TYPES = {f32: 0, f16: 1, q4_0: 2, q8_0: 8, bf16: 30}


def gguf_name(name):
    stem, suffix = name.rsplit(".", 1)
    for blocks in ("model.layers.", "transformer.h."):
        if stem.startswith(blocks):
            layer, rest = stem[len(blocks):].split(".", 1)
            return f"blk.{layer}.{GGUF_NAMES[rest]}.{suffix}"
    return f"{GGUF_NAMES[stem]}.{suffix}"


def gguf_text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value):
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<I", 8) + gguf_text(value)


def write_gguf(path, version, metadata, tensors, alignment):
    """tensors: [(name, shape, type number, bytes)]"""
    text = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        text += gguf_text(key) + gguf_value(value)
    offset, data = 0, b""
    for name, shape, number, content in tensors:
        text += gguf_text(name) + struct.pack("<I", len(shape))
        text += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", number, len(data))
        data += content + bytes(-len(content) % alignment)
    path.write_bytes(text + bytes(-len(text) % alignment) + data)


def gguf_tensors(model, encoding_of):
    tensors = []
    for name, x in model.w.items():
        encode = f32 if x.ndim == 1 else encoding_of(name)
        data = encode(in_pairs(model, name, x))[0]
        model.w[name] = encode(x)[1]  # rows are encoded one by one, so their order does not matter
        tensors.append((gguf_name(name), x.shape, GGUF_TYPES[encode], data))
    return tensors


def llama_gguf(out):
    """Version 2, tied (no output.weight), a different type for each kind of matrix."""
    model = Llama(4, layers=1, tied=True, theta=10000.0)
    types = {"embed_tokens": q8_0, "q_proj": q8_0, "k_proj": f16, "v_proj": q4_0, "o_proj": bf16, "gate_proj": q4_0,
             "up_proj": f32, "down_proj": q8_0}
    tensors = gguf_tensors(model, lambda name: types[name.split(".")[-2]])
    write_gguf(out / "llama.gguf", 2, {
        "general.architecture": "llama", "llama.context_length": model.context, "llama.embedding_length": model.width,
        "llama.block_count": model.layers, "llama.feed_forward_length": model.hidden,
        "llama.attention.head_count": model.heads, "llama.attention.head_count_kv": model.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": model.eps, "llama.rope.dimension_count": model.width // model.heads,
        "llama.rope.freq_base": model.theta, "tokenizer.ggml.model": "none"}, tensors, 32)
    return model


def gpt2_gguf(out):
    """Version 3, untied, aligned to 64 bytes."""
    model = Gpt2(5, hidden=64, tied=False)
    tensors = gguf_tensors(model, lambda name: f32 if name.endswith("wpe.weight") else f16)
    write_gguf(out / "gpt2.gguf", 3, {
        "general.architecture": "gpt2", "general.alignment": 64, "gpt2.context_length": model.context,
        "gpt2.embedding_length": model.width, "gpt2.block_count": model.layers,
        "gpt2.feed_forward_length": model.hidden, "gpt2.attention.head_count": model.heads,
        "gpt2.attention.layer_norm_epsilon": model.eps, "tokenizer.ggml.model": "none"}, tensors, 64)
    return model


def llama2c(out):
    """llama2.c's version 0, untied (a negative vocabulary)."""
    model = Llama(6, layers=2)
    data = struct.pack("<7i", model.width, model.hidden, model.layers, model.heads, model.kv_heads, -model.vocabulary,
                       model.context)

    def add(name):
        nonlocal data
        data += f32(in_pairs(model, name, model.w[name]))[0]
        model.w[name] = f32(model.w[name])[1]

    add("model.embed_tokens.weight")
    for part in ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                 "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"):
        for layer in range(model.layers):
            add(f"model.layers.{layer}.{part}.weight")
    add("model.norm.weight")
    data += bytes(4 * model.context * (model.width // model.heads))  # tables that readers skip
    add("lm_head.weight")
    (out / "llama2c.bin").write_bytes(data)
    return model


# ---- Everything ----------------------------------------------------------------------------------------------


def make_all(out):
    golden = {"tokens": TOKENS, "logits": {}}
    for name, make in (("hf_llama", hf_llama), ("hf_llama_shards", hf_llama_shards), ("hf_gpt2", hf_gpt2),
                       ("llama.gguf", llama_gguf), ("gpt2.gguf", gpt2_gguf), ("llama2c.bin", llama2c)):
        logits = make(out).logits(TOKENS)
        stride = logits.shape[1] // 40  # of a large vocabulary some forty columns
        golden["logits"][name] = [[float(f"{x:.9g}") for x in row[::stride]] for row in logits]
    (out / "logits.json").write_text(json.dumps(golden) + "\n")


def check():
    with tempfile.TemporaryDirectory() as temporary:
        fresh = pathlib.Path(temporary)
        make_all(fresh)
        files = [path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()]
        different = [str(f) for f in files if not (HERE / f).exists() or (HERE / f).read_bytes() != (fresh / f).read_bytes()]
    if different:
        sys.exit("differ: " + ", ".join(sorted(different)))


if __name__ == "__main__":
    check() if "--check" in sys.argv[1:] else make_all(HERE)

"""A model folder of dense Llama weights as a GGUF file, with a vocabulary of numbered words: token n of the file
is the text " w<n - 260>", so that what a peer writes can be read back as token ids. Python's standard library only.
Format: github.com/ggml-org/ggml, docs/gguf.md. It does not share code with `qtf convert`.
"""
import json
import mmap
import os
import struct

ALIGNMENT = 32
UNSIGNED, FLOAT, TEXT, ARRAY, SIGNED = 4, 6, 8, 9, 5  # numbers of the kinds of metadata
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # types of tokens
START = 1  # the token that llama.cpp puts before every text
FIRST_WORD = 3 + 256 + 1  # after three control tokens, the bytes and the beginning of all words


def word(token):
    return f"w{token - FIRST_WORD}"


def tokens_of(text):
    """The ids in a text of words, up to the first that is none."""
    ids = []
    for part in text.split():
        if not (part[0] == "w" and part[1:].isdigit()):
            break
        ids.append(int(part[1:]) + FIRST_WORD)
    return ids


def vocabulary(size):
    """(texts, types). Every beginning of a word is a token, so SentencePiece's merges from the left find it."""
    texts = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["\u2581w"]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL]
    words = ["\u2581" + word(token) for token in range(FIRST_WORD, size)]
    return texts + words, types + [NORMAL] * len(words)


def packed_text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def packed_value(kind, value):
    if kind == TEXT:
        return packed_text(value)
    return struct.pack({UNSIGNED: "<I", FLOAT: "<f", SIGNED: "<i"}[kind], value)


def packed_entry(key, kind, value):
    if not isinstance(value, list):
        return packed_text(key) + struct.pack("<I", kind) + packed_value(kind, value)
    body = b"".join(packed_value(kind, element) for element in value)
    return packed_text(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + body


def metadata(config):
    texts, types = vocabulary(config["vocab_size"])
    prefix = "llama."
    return [
        ("general.architecture", TEXT, "llama"),
        (prefix + "vocab_size", UNSIGNED, config["vocab_size"]),
        (prefix + "context_length", UNSIGNED, config["max_position_embeddings"]),
        (prefix + "embedding_length", UNSIGNED, config["hidden_size"]),
        (prefix + "block_count", UNSIGNED, config["num_hidden_layers"]),
        (prefix + "feed_forward_length", UNSIGNED, config["intermediate_size"]),
        (prefix + "attention.head_count", UNSIGNED, config["num_attention_heads"]),
        (prefix + "attention.head_count_kv", UNSIGNED, config["num_key_value_heads"]),
        (prefix + "attention.layer_norm_rms_epsilon", FLOAT, config["rms_norm_eps"]),
        (prefix + "rope.dimension_count", UNSIGNED, config["hidden_size"] // config["num_attention_heads"]),
        (prefix + "rope.freq_base", FLOAT, config["rope_theta"]),
        ("tokenizer.ggml.model", TEXT, "llama"),
        ("tokenizer.ggml.tokens", TEXT, texts),
        ("tokenizer.ggml.scores", FLOAT, [0.0] * len(texts)),
        ("tokenizer.ggml.token_type", SIGNED, types),
        ("tokenizer.ggml.bos_token_id", UNSIGNED, START),
        ("tokenizer.ggml.eos_token_id", UNSIGNED, 2),
        ("tokenizer.ggml.unknown_token_id", UNSIGNED, 0),
    ]


NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    outside = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
               "lm_head.weight": "output.weight"}
    if name in outside:
        return outside[name]
    layer, _, rest = name[len("model.layers."):].partition(".")
    return f"blk.{layer}.{NAMES[rest[:-len('.weight')]]}.weight"


def rotary_rows(rows, heads):
    """Hugging Face pairs coordinates i and i + half of a head, llama.cpp 2i and 2i + 1: the file's row order."""
    size = len(rows) // heads
    half = size // 2
    return [rows[head * size + part * half + i] for head in range(heads) for i in range(half) for part in (0, 1)]


def tensor_bytes(name, data, dims, config):
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    if not heads:
        return data
    stride = len(data) // dims[0]
    return b"".join(rotary_rows([data[i * stride:(i + 1) * stride] for i in range(dims[0])], config[heads]))


def write_gguf(folder, path):
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + struct.unpack("<Q", weights[:8])[0]
    tensors = json.loads(weights[8:start])
    tensors.pop("__metadata__", None)
    entries = metadata(config)
    descriptions, offset = b"", 0
    for name, tensor in tensors.items():
        dims, (begin, end) = tensor["shape"], tensor["data_offsets"]
        descriptions += packed_text(gguf_name(name)) + struct.pack("<I", len(dims))
        descriptions += b"".join(struct.pack("<Q", dim) for dim in reversed(dims)) + struct.pack("<IQ", 0, offset)
        offset += (end - begin + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    head += b"".join(packed_entry(*entry) for entry in entries) + descriptions
    with open(path, "wb") as out:
        out.write(head + bytes(-len(head) % ALIGNMENT))
        for name, tensor in tensors.items():
            begin, end = tensor["data_offsets"]
            data = tensor_bytes(name, weights[start + begin:start + end], tensor["shape"], config)
            out.write(data + bytes(-len(data) % ALIGNMENT))

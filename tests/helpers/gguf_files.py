"""Write tiny GGUF files."""

import importlib.util

import numpy as np
import pytest
from generation_models import WIDTH

needs_gguf = pytest.mark.skipif(
    any(importlib.util.find_spec(p) is None for p in ("gguf", "accelerate")),
    reason="requirements/generator.txt is not installed",
)


def write_gguf(path):
    """Write a tiny Llama whose pad token is its end token; return its embeddings."""
    from gguf import GGUFWriter, TokenType

    # Bytes as GPT-2 spells them; two merges, for older releases fail with one.
    letters = [chr(i) for i in range(33, 127)] + ["Ġ"]
    tokens = ["<unk>", "<start>", "<end>", *letters, "ab", "abc"]
    kinds = [TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3)
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(32)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    rng = np.random.default_rng(0)

    def add(name, *shape):
        values = rng.normal(size=shape, scale=0.5).astype(np.float32)
        writer.add_tensor(name, values)
        return values

    embeddings = add("token_embd.weight", len(tokens), WIDTH)
    add("output_norm.weight", WIDTH)
    for i in range(2):
        for part, size in (("q", WIDTH), ("k", 8), ("v", 8), ("output", WIDTH)):
            add(f"blk.{i}.attn_{part}.weight", size, WIDTH)
        for part, shape in (("gate", (32, WIDTH)), ("up", (32, WIDTH))):
            add(f"blk.{i}.ffn_{part}.weight", *shape)
        add(f"blk.{i}.ffn_down.weight", WIDTH, 32)
        for part in ("attn_norm", "ffn_norm"):
            add(f"blk.{i}.{part}.weight", WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return embeddings

"""Build tiny generative models with large weights, so that their outputs vary."""

import numpy as np
import torch
import transformers

from sktransformers._models.files import quiet

N_TOKENS = 60
EOS, PAD, START = 2, 1, 3
WIDTH = 16
POSITIONS = 64

_DECODER = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 2 * WIDTH,
    "max_position_embeddings": POSITIONS,
}
_IDS = {"eos_token_id": EOS, "pad_token_id": PAD, "bos_token_id": START}


def _config(kind):
    match kind:
        case "gpt2":
            return transformers.GPT2Config(
                n_embd=WIDTH, n_layer=2, n_head=2, n_positions=POSITIONS
            )
        case "llama":
            return transformers.LlamaConfig(**_DECODER, num_key_value_heads=2)
        case "mistral":
            return transformers.MistralConfig(
                **_DECODER, num_key_value_heads=2, sliding_window=5, head_dim=4
            )
        case "bloom":  # is not told positions
            return transformers.BloomConfig(hidden_size=WIDTH, n_layer=2, n_head=2)
        case "mamba":  # keeps no keys and values
            return transformers.MambaConfig(
                hidden_size=WIDTH, state_size=4, num_hidden_layers=2
            )
        case "bart":
            return transformers.BartConfig(
                d_model=WIDTH,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                max_position_embeddings=POSITIONS,
                decoder_start_token_id=START,
                forced_eos_token_id=None,
            )
        case "t5":
            return transformers.T5Config(
                d_model=WIDTH,
                d_kv=8,
                d_ff=32,
                num_layers=2,
                num_heads=2,
                decoder_start_token_id=START,
            )
    raise ValueError(kind)


DECODERS = ["gpt2", "llama", "mistral", "bloom", "mamba"]
PAIRS = ["bart", "t5"]


def make_generative(kind, *, scale=0.8, seed=4):
    """Return a tiny model with random weights of the given standard deviation."""
    with quiet():
        config = _config(kind)
    config.vocab_size = N_TOKENS
    for name, value in _IDS.items():
        setattr(config, name, value)
    auto = transformers.AutoModelForCausalLM
    if config.is_encoder_decoder:
        auto = transformers.AutoModelForSeq2SeqLM
    with torch.random.fork_rng(), quiet():
        model = auto.from_config(config).eval()
        torch.manual_seed(seed)  # now: releases differ in what they draw before
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=scale)
    return model


def make_prompts(n=9, *, longest=14, seed=0):
    """Return random prompts of different lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, size=n)
    return [rng.integers(4, N_TOKENS, size=length) for length in lengths]

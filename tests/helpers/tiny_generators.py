"""Make tiny generative models, and generators that use them."""

import copy

import numpy as np
import torch
import transformers
from tiny_models import make_word_tokenizer

from sktransformers import TransformerGenerator
from sktransformers._models.files import quiet

LETTERS = "abcdef"
DECODERS = ["gpt2", "llama"]
PAIRS = ["bart", "t5"]
KINDS = DECODERS + PAIRS
WIDTH = 32
POSITIONS = 64
CHAT = (
    "{% for message in messages %}<|start|>{{ message['role'] }} "
    "{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>story {% endif %}"
)


def make_config(kind, n_tokens, **overrides):
    """Return the configuration of a tiny model without dropout."""
    if kind == "gpt2":
        config_class, own = (
            transformers.GPT2Config,
            {
                "n_embd": WIDTH,
                "n_layer": 2,
                "n_head": 2,
                "n_positions": POSITIONS,
                "initializer_range": 0.1,
                "resid_pdrop": 0.0,
                "embd_pdrop": 0.0,
                "attn_pdrop": 0.0,
            },
        )
    elif kind == "llama":
        config_class, own = (
            transformers.LlamaConfig,
            {
                "hidden_size": WIDTH,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 2 * WIDTH,
                "max_position_embeddings": POSITIONS,
                "initializer_range": 0.1,
            },
        )
    elif kind == "t5":
        config_class, own = (
            transformers.T5Config,
            {
                "d_model": WIDTH,
                "d_kv": WIDTH,
                "d_ff": 2 * WIDTH,
                "num_layers": 2,
                "num_heads": 2,
                "dropout_rate": 0.0,
                "decoder_start_token_id": 1,
            },
        )
    else:
        config_class = {
            "bart": transformers.BartConfig,
            "mbart": transformers.MBartConfig,
            "nllb": transformers.M2M100Config,
        }[kind]
        own = {
            "d_model": WIDTH,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 2 * WIDTH,
            "decoder_ffn_dim": 2 * WIDTH,
            "encoder_layerdrop": 0.0,
            "decoder_layerdrop": 0.0,
            "max_position_embeddings": POSITIONS,
            "init_std": 0.1,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": None,
        }
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    if kind in DECODERS:
        ids = {"bos_token_id": 0, "eos_token_id": 0}  # which is what pads, too
    return config_class(**{"vocab_size": n_tokens, **ids, **own, **overrides})


def save_writer(directory, kind, tokenizer=None, **config):
    """Save a tiny generative model with its tokenizer; return the directory."""
    if tokenizer is None:
        tokenizer = make_word_tokenizer("gpt2" if kind in DECODERS else "roberta")
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        config = make_config(kind, len(tokenizer), **config)
        auto = transformers.AutoModelForCausalLM
        if config.is_encoder_decoder:
            auto = transformers.AutoModelForSeq2SeqLM
        model = auto.from_config(config)
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:  # or T5 long overlooks the order
                parameter.data *= 10
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return str(directory)


def save_chat(directory, template):
    """Save a tiny model whose tokenizer has a chat template; return the directory."""
    tokenizer = make_word_tokenizer("gpt2")
    special = {"additional_special_tokens": ["<|start|>", "<|end|>"]}
    tokenizer.add_special_tokens(special)
    tokenizer.chat_template = template
    return save_writer(directory, "llama", tokenizer)


def make_pairs(n, *, seed=0):
    """Return texts of one or two letters, and the next letters in the alphabet."""
    rng = np.random.default_rng(seed)
    sources = [*LETTERS, *(f"{a} {b}" for a in LETTERS for b in LETTERS)]
    order = np.concatenate([rng.permutation(len(sources)) for _ in range(n // 42 + 1)])
    X = [sources[i] for i in order[:n]]
    following = dict(zip(LETTERS, LETTERS[1:] + LETTERS[:1], strict=True))
    return X, ["".join(following.get(c, c) for c in text) for text in X]


def make_generator(model, **params):
    """Return an unfitted generator that trains quickly."""
    options = {
        "batch_size": 16,
        "learning_rate": 1e-2,
        "max_epochs": 5,
        "device": "cpu",
        "precision": "float32",
        "random_state": 0,
    }
    return TransformerGenerator(model, **{**options, **params})


def untrained(model, **params):
    """Return an unfitted generator whose fit does not train the model."""
    return make_generator(model, **{"max_epochs": 0, **params})


def of(generator, **params):
    """Return a copy of a fitted generator with other parameters and the same model."""
    return copy.copy(generator).set_params(**params)


def load(directory):
    """Load the model and the tokenizer with transformers."""
    auto = transformers.AutoModelForCausalLM
    config = transformers.AutoConfig.from_pretrained(directory)
    if config.is_encoder_decoder:
        auto = transformers.AutoModelForSeq2SeqLM
    with quiet():
        model = auto.from_pretrained(directory)
        return model.eval(), transformers.AutoTokenizer.from_pretrained(directory)


def lay_out(tokenizer, is_encoder_decoder, source, target):
    """Return the input ids and the labels of a text for transformers."""
    target = tokenizer(target, add_special_tokens=False)["input_ids"]
    target += [tokenizer.eos_token_id]
    prompt = tokenizer(source)["input_ids"]
    if is_encoder_decoder:
        return prompt, target
    return prompt + target, [-100] * len(prompt) + target


def transformers_loss(model, tokenizer, rows):
    """Return the loss that transformers computes for rows of ids and labels."""
    ids, labels = (
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row) for row in side], batch_first=True, padding_value=fill
        )
        for side, fill in zip(zip(*rows, strict=True), (-1, -100), strict=True)
    )
    mask = (ids >= 0).long()
    with quiet():
        return model(ids.clamp_min(0), attention_mask=mask, labels=labels).loss


def loss_of(*args):
    """Return the loss that transformers computes as a float."""
    with torch.no_grad():
        return float(transformers_loss(*args))

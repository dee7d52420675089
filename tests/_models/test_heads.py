"""Heads of the architectures: which token of a text they read."""

import pytest
import torch
import transformers
from tiny_models import assert_close, make_sentences, make_word_tokenizer
from tokenizers import processors

from sktransformers import TransformerClassifier
from sktransformers._models.files import quiet

X, _ = make_sentences(12)
_SIZES = {
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_size": 16,
}
_CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2),
    "llama": lambda: transformers.LlamaConfig(**_SIZES, num_key_value_heads=2),
    "opt": lambda: transformers.OPTConfig(**_SIZES, ffn_dim=32, word_embed_proj_dim=16),
    "qwen3": lambda: transformers.Qwen3Config(
        **_SIZES, num_key_value_heads=2, head_dim=8
    ),
    "bart": lambda: transformers.BartConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
    ),
    "t5": lambda: transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    ),
}


def _make_tokenizer(kind, pad):
    """Return a tokenizer that has its token of padding last, at an end, or not."""
    tokenizer = make_word_tokenizer("gpt2")
    if kind in ("bart", "t5", "ends"):
        end = "<|endoftext|>"
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, 0)]
        )
    if pad:
        tokenizer.pad_token = pad
    return tokenizer


def _save(folder, kind, tokenizer, **ids):
    """Save a model with a trained head, and return it as it should be called."""
    config = _CONFIGS[kind]()
    config.vocab_size, config.num_labels = len(tokenizer), 3
    config.bos_token_id = config.eos_token_id = 0
    config.decoder_start_token_id = 1
    config.pad_token_id = None
    auto = transformers.AutoModelForSequenceClassification
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        model.config.update(ids)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    model.config.update({"eos_token_id": 0, "pad_token_id": tokenizer.pad_token_id})
    if config.is_encoder_decoder and tokenizer.pad_token_id is None:
        model.config.pad_token_id = 1  # masked
    return model.eval()


def _probabilities(model, tokenizer, texts):
    """Return what transformers gives for each text alone."""
    rows = []
    with torch.no_grad():
        for text in texts:
            logits = model(**tokenizer(text, return_tensors="pt")).logits
            rows.append(logits[0].softmax(-1).numpy())
    return rows


@pytest.mark.parametrize("pad", ["z", "<|endoftext|>", None])
@pytest.mark.parametrize("kind", _CONFIGS)
@pytest.mark.parametrize("wrong", [None, 8])  # a word of the texts
def test_the_last_token_is_found_by_the_tokenizers_ids(kind, pad, wrong, tmp_path):
    if kind in ("bart", "t5") and pad == "<|endoftext|>":
        pytest.skip("a text cannot end in what it is padded with")
    tokenizer = _make_tokenizer(kind, pad)
    eos = 5 if wrong and kind in ("bart", "t5") else 0
    model = _save(tmp_path, kind, tokenizer, pad_token_id=wrong, eos_token_id=eos)
    texts = [f"{text} {tokenizer.decode([8])}" for text in X[:4]] + X[4:]
    expected = _probabilities(model, tokenizer, texts)
    classifier = TransformerClassifier.from_pretrained(tmp_path, device="cpu")
    assert_close(classifier.predict_proba(texts), expected)
    assert_close(classifier.predict_proba(texts[:1]), expected[:1])
    kept = TransformerClassifier(
        str(tmp_path), max_epochs=0, device="cpu", precision="float32"
    ).fit(texts, [i % 3 for i in range(len(texts))])
    assert_close(kept.predict_proba(texts), expected)
    kept.save_pretrained(tmp_path / "saved")
    again = TransformerClassifier.from_pretrained(tmp_path / "saved")
    assert_close(again.predict_proba(texts), expected)


def test_a_tokenizer_that_ends_each_text_and_has_no_padding(tmp_path):
    tokenizer = _make_tokenizer("ends", None)
    model = _save(tmp_path, "llama", tokenizer)
    expected = _probabilities(model, tokenizer, X)
    classifier = TransformerClassifier.from_pretrained(tmp_path, device="cpu")
    assert_close(classifier.predict_proba(X), expected)

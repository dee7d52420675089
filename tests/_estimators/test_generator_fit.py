"""Tests of TransformerGenerator.fit: loss, weights, warm start and precision."""

import threading

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import clone
from tiny_generators import (
    DECODERS,
    POSITIONS,
    WIDTH,
    lay_out,
    load,
    loss_of,
    make_generator,
    make_pairs,
    of,
    transformers_loss,
    untrained,
)
from tiny_models import make_word_tokenizer
from tiny_translators import LANGUAGES

from sktransformers._models.files import quiet

# The loss


def test_the_perplexity_is_of_transformers_own_loss(kind, writers, pairs):
    X, y = (side[:12] for side in pairs)
    model, tokenizer = load(writers[kind])
    is_encoder_decoder = model.config.is_encoder_decoder
    rows = [
        lay_out(tokenizer, is_encoder_decoder, *pair) for pair in zip(X, y, strict=True)
    ]
    expected = [loss_of(model, tokenizer, [row]) for row in rows]
    perplexity = untrained(writers[kind]).fit(X, y).perplexity(X, y)
    assert perplexity.shape == (12,)
    np.testing.assert_allclose(np.log(perplexity), expected, rtol=1e-5)


def test_a_step_minimizes_transformers_own_loss(kind, writers, pairs):
    X, y = (side[:12] for side in pairs)
    model, tokenizer = load(writers[kind])
    is_encoder_decoder = model.config.is_encoder_decoder
    rows = [
        lay_out(tokenizer, is_encoder_decoder, *pair) for pair in zip(X, y, strict=True)
    ]
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


def test_the_output_layer_is_given_no_more_than_what_is_learned(
    kind, fitted_generators
):
    X, y = ["a b c d e f", "a", "b"], ["b", "c d", "e f"]
    shapes = []
    layer = fitted_generators[kind].model_.model.get_output_embeddings()
    handle = layer.register_forward_pre_hook(
        lambda _, args: shapes.append(args[0].shape)
    )
    try:
        fitted_generators[kind].perplexity(X, y)
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
    is_encoder_decoder = model.config.is_encoder_decoder
    rows = [
        lay_out(tokenizer, is_encoder_decoder, *pair) for pair in zip(X, y, strict=True)
    ]
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


def test_bfloat16_writes_streams_and_judges_too(kind, fitted_generators, pairs):
    X, y = pairs
    fast = of(fitted_generators[kind], inference_precision="bfloat16")
    assert np.mean(fast.predict(X) == np.array(y)) > 0.8
    assert "".join(fast.stream(X[0])) == fast.predict(X[:1])[0]
    np.testing.assert_allclose(
        np.log(fast.perplexity(X, y)),
        np.log(fitted_generators[kind].perplexity(X, y)),
        atol=0.2,
    )
    assert {p.dtype for p in fitted_generators[kind].model_.parameters()} == {
        torch.float32
    }


def test_threads_that_write_and_judge_do_not_disturb_one_another(
    fitted_generators, pairs
):
    X, y = pairs
    generator = fitted_generators["gpt2"]
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

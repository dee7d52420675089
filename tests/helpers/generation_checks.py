"""Check what every generative architecture must do in a TransformerGenerator."""

import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from architectures import AUTO_CLASSES, CannotBuildError, save_model
from tiny_models import VOCABULARY

from sktransformers import TransformerGenerator
from sktransformers._models.files import quiet

N_NEW = 8
LENGTHS = [1, 12, 2, 12, 45, 30, 7, 1]
TOLERANCE = 1e-4


def make_texts(seed: int = 0) -> list[str]:
    """Return texts of 1 to 45 words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(VOCABULARY, k=length)) for length in LENGTHS]


def make_generator(model: str, **params: Any) -> TransformerGenerator:
    """Return an unfitted generator that trains for two steps."""
    shared = {"max_epochs": 1, "batch_size": 4, "device": "cpu", "random_state": 0}
    shared |= {"precision": "float32", "learning_rate": 1e-3}
    return TransformerGenerator(model, max_new_tokens=N_NEW, **shared | params)


def generated_by_transformers(model: str, task: str, X: list[str]) -> list[str]:
    """Return what transformers itself generates for each text alone."""
    with quiet():
        module = AUTO_CLASSES[task].from_pretrained(model).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        module.generation_config = transformers.GenerationConfig()
        written = []
        ends = {tokenizer.eos_token_id, tokenizer.mask_token_id}
        for text in X:
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            if not module.config.is_encoder_decoder:
                while len(ids[0]) > 1 and int(ids[0, -1]) in ends:
                    ids = ids[:, :-1]
                ids = ids[:, : tokenizer.model_max_length - N_NEW]
            given = 1 if module.config.is_encoder_decoder else ids.shape[1]
            (row,) = module.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=N_NEW,
                do_sample=False,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                suppress_tokens=[tokenizer.pad_token_id],
                decoder_start_token_id=tokenizer.bos_token_id,
            )
            written.append(tokenizer.decode(row[given:], skip_special_tokens=True))
    return written


def require_same(what: str, found: Any, expected: Any) -> None:
    """Raise AssertionError if texts differ."""
    rows = [i for i, (f, e) in enumerate(zip(found, expected, strict=True)) if f != e]
    assert not rows, f"{what}: differs in texts {rows}"


def require_close(what: str, found: Any, expected: Any) -> None:
    """Raise AssertionError if perplexities differ by more than rounding."""
    found, expected = np.log(found), np.log(expected)
    assert np.isfinite(found).all(), f"{what}: not finite"
    difference = np.abs(found - expected).max()
    assert difference < TOLERANCE, f"{what}: differs by {difference:.2g}"


def check_generator(generator: TransformerGenerator, folder: Path) -> None:
    """Compare the texts of a fitted generator in all circumstances."""
    X, y = make_texts(), make_texts(1)[::-1]
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    together = generator.predict(X)
    perplexities = generator.perplexity(X, y)
    assert len(set(perplexities)) > 1, "all perplexities are the same"
    alone = [generator.predict([text])[0] for text in X]
    require_same("alone", alone, together)
    singly = [generator.perplexity([X[i]], [y[i]])[0] for i in range(len(X))]
    require_close("perplexity alone", singly, perplexities)
    require_same("backwards", generator.predict(X[::-1])[::-1], together)
    require_same("stream", ["".join(generator.stream(X[1]))], together[1:2])
    sampling = {"do_sample": True, "temperature": 2.0}
    sampler = pickle.loads(pickle.dumps(generator)).set_params(**sampling)
    require_same("sample alone", sampler.predict(X[:1]), sampler.predict(X)[:1])
    after = np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    assert np.array_equal(before[0], after[0]), "numpy's random state changed"
    assert torch.equal(before[1], after[1]), "torch's random state changed"
    copy = pickle.loads(pickle.dumps(generator))
    require_same("pickle", copy.predict(X), together)
    generator.save_pretrained(folder)
    loaded = TransformerGenerator.from_pretrained(folder)
    require_same("load", loaded.predict(X), together)


def check_architecture(model_type: str, task: str, folder: Path) -> None:
    """Run the checks on one architecture, as it is and trained.

    Parameters
    ----------
    model_type : str
        Value of ``config.model_type``.
    task : {"CausalLM", "Seq2SeqLM"}
        Mapping of transformers that the architecture is in.
    folder : Path
        An empty directory.

    Raises
    ------
    CannotBuildError
        If no tiny model can be built, or transformers itself cannot use it.
    """
    model = save_model(folder / "model", model_type, task)
    X, y = make_texts(), make_texts(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        untrained = make_generator(model, max_epochs=0).fit(X)
        try:
            expected = generated_by_transformers(model, task, X)
        except Exception as error:
            raise CannotBuildError(f"transformers does not generate: {error}") from None
        require_same("transformers", untrained.predict(X), expected)
        check_generator(untrained, folder / "untrained")
        trained = make_generator(model).fit(X, y)
        check_generator(trained, folder / "trained")

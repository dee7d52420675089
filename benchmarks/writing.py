"""Compare quality and speed of TransformerGenerator with transformers.

Three tasks, on the data sets of a folder:

- translate: English to German (multi30k) with a small, randomly initialized
  encoder-decoder, compared with ``Seq2SeqTrainer`` and with copying the source;
- headlines: SmolLM2-135M-Instruct, fine-tuned with LoRA on the titles of news texts
  (ag_news), compared with the original model and the first words of the text;
- write: text completion by the same model, compared with
  ``pipeline("text-generation")``::

    python -m benchmarks.writing path/to/data --peer .venv-peers/bin/python
"""

import argparse
import csv
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
import pandas as pd

from sktransformers import TransformerGenerator
from sktransformers._models.bundled import EMBEDDED, find_embedded
from sktransformers.metrics import bleu_score, chrf_score, rouge_l_score

from .running import Contestant, append, measure, rows_done, say

SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
OURS, TRAINER = "writing_with_sktransformers.py", "writing_with_trainer.py"
PIPELINE = "writing_with_pipeline.py"
TRANSLATORS = (
    Contestant("sktransformers", OURS, is_peer=False),
    Contestant("Seq2SeqTrainer, defaults", TRAINER),
    Contestant("Seq2SeqTrainer, bf16", TRAINER, {"bf16": True}),
)
WRITERS = (
    Contestant("sktransformers", OURS, is_peer=False),
    Contestant(
        "sktransformers, bfloat16",
        OURS,
        {"inference_precision": "bfloat16"},
        is_peer=False,
    ),
    Contestant("pipeline(), one a call", PIPELINE),
    Contestant("pipeline(batch_size=16)", PIPELINE, {"batch_size": 16}),
)
RECIPE = {"batch_size": 32, "learning_rate": 1e-3, "max_new_tokens": 60, "seed": 0}
N_TITLE_WORDS = 7  # median number of words of the titles in ag_news

KEYS = ("work", "contestant")
COLUMNS = (*KEYS, "bleu", "chrf", "rouge_l", "seconds", "predict_seconds", "same")


def main() -> None:
    """Run the missing measurements, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--peer", required=True, help="Python of the other libraries")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument(
        "--pairs", type=int, default=12000, help="number of training pairs"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=200, help="number of prompts")
    parser.add_argument("--out", type=pathlib.Path, default="build/writing.csv")
    parser.add_argument(
        "--report", action="store_true", help="only print existing results"
    )
    options = parser.parse_args()
    done = rows_done(options.out, KEYS)
    for work in () if options.report else options.only:
        for row in WORKS[work](options, done):
            append(options.out, {"work": work, **row}, COLUMNS)
    print(pd.read_csv(options.out).to_string(index=False, float_format="%.3f"))


def translate(options: argparse.Namespace, done: set[tuple]) -> Iterator[dict]:
    """Train randomly initialized models to translate."""
    X, y = read_pairs(options.data / "multi30k" / "train.tsv")
    X_test, y_test = read_pairs(options.data / "multi30k" / "test.tsv")
    X, y = X[: options.pairs], y[: options.pairs]
    if ("translate", "the source") not in done:
        yield {"contestant": "the source", **scores(y_test, X_test)}
    with tempfile.TemporaryDirectory() as folder:
        save_small_model(folder, [*X, *y])
        for contestant in TRANSLATORS:
            if ("translate", contestant.name) in done:
                continue
            task = {
                **RECIPE,
                "work": "translate",
                "epochs": options.epochs,
                "model": folder,
                "X": X,
                "y": y,
                "X_test": X_test,
            }
            result = measure(contestant, task, options.peer)
            if "skipped" in result:
                say(f"{contestant.name}: left out, {result['skipped']}")
                continue
            say(f"translate, {contestant.name}: {result['seconds']:.0f} s")
            quality = scores(y_test, result.pop("written"))
            yield {"contestant": contestant.name, **quality, **result}


def headlines(options: argparse.Namespace, done: set[tuple]) -> Iterator[dict]:
    """Fine-tune a model with LoRA to generate titles."""
    if ("headlines", "fine-tuned") in done:
        return
    X, y = read_columns(options.data / "ag_news" / "train.tsv", "description", "title")
    X_test, y_test = read_columns(
        options.data / "ag_news" / "test.tsv", "description", "title"
    )
    X_test, y_test = X_test[:200], y_test[:200]
    rows = np.random.default_rng(0).permutation(len(X))[:300]
    first_words = [" ".join(text.split()[:N_TITLE_WORDS]) for text in X_test]
    yield {"contestant": "first words", **scores(y_test, first_words)}
    generator = TransformerGenerator(
        lora_rank=8,
        learning_rate=1e-3,
        max_epochs=0,
        batch_size=16,
        max_new_tokens=24,
        prompt_template="Write a headline for this piece of news: {text}",
        use_chat_template=True,
        random_state=0,
    )
    X, y = [X[row] for row in rows], [y[row] for row in rows]
    for name, epochs in (("as it is", 0), ("fine-tuned", 3)):
        generator.set_params(max_epochs=epochs).fit(X, y)
        seconds = sum(record["seconds"] for record in generator.history_)
        say(f"headlines, {name}: {seconds:.0f} s")
        quality = scores(y_test, generator.predict(X_test).tolist())
        yield {"contestant": name, "seconds": seconds, **quality}


def write(options: argparse.Namespace, done: set[tuple]) -> Iterator[dict]:
    """Complete the beginnings of news texts."""
    X, _ = read_columns(options.data / "ag_news" / "test.tsv", "description", "title")
    rng = np.random.default_rng(0)
    prompts = [
        " ".join(text.split()[: rng.integers(4, 30)]) for text in X[: options.prompts]
    ]
    folder = find_embedded(SMOLLM)
    if folder is None:
        say(f"write: left out, {SMOLLM} is not installed")
        return
    expected: list[str] | None = None
    for contestant in WRITERS:
        if ("write", contestant.name) in done:
            continue
        task = {
            "work": "write",
            "model": str(folder / EMBEDDED[SMOLLM].weights),
            "X_test": prompts,
            "max_new_tokens": 32,
        }
        result = measure(contestant, task, options.peer)
        if "skipped" in result:
            say(f"{contestant.name}: left out, {result['skipped']}")
            continue
        written = result.pop("written")
        say(f"write, {contestant.name}: {result['seconds']:.0f} s")
        if expected is None:
            expected = written
        same = np.mean([a == b for a, b in zip(written, expected, strict=True)])
        yield {"contestant": contestant.name, "same": same, **result}


def scores(true: list[str], written: list[str]) -> dict[str, float]:
    """Return BLEU, chrF and ROUGE-L of generated texts."""
    return {
        "bleu": bleu_score(true, written),
        "chrf": chrf_score(true, written),
        "rouge_l": rouge_l_score(true, written),
    }


def read_columns(path: pathlib.Path, *names: str) -> list[list[str]]:
    """Return columns of a TSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [[row[name] for row in rows] for name in names]


def read_pairs(path: pathlib.Path) -> list[list[str]]:
    """Return the first two columns of a TSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        names = file.readline().rstrip("\n").split("\t")
    return read_columns(path, *names[:2])


def save_small_model(folder: str, texts: list[str]) -> None:
    """Save a randomly initialized encoder-decoder and a tokenizer of the texts."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    bpe.decoder = decoders.Metaspace()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=8000, special_tokens=special)
    )
    bpe.post_processor = TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=128,
    )
    config = transformers.MBartConfig(
        vocab_size=len(tokenizer),
        d_model=256,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        dropout=0.1,
        max_position_embeddings=130,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
        scale_embedding=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.MBartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


WORKS = {"translate": translate, "headlines": headlines, "write": write}


if __name__ == "__main__":
    main()

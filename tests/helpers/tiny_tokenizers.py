"""Make small tokenizers of many kinds, trained on the sentences of the tests."""

import transformers
from tiny_models import make_sentences, make_word_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers


def train_tokenizer(model, pre_tokenizer, trainer, post_processor, **special):
    """Return a tokenizer of word pieces, trained on the sentences."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(make_sentences(200)[0], trainer)
    tokenizer.post_processor = post_processor
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def make_byte_bpe(family):
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if family == "gpt2":
        special = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    if family == "gpt2":
        post_processor = processors.ByteLevel(trim_offsets=False)
        names = {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    else:
        post_processor = processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0), add_prefix_space=False
        )
        names = {"eos_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>"}
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return train_tokenizer(models.BPE(), pieces, trainer, post_processor, **names)


def make_marking_sentencepiece(sentences):
    """Return a tokenizer that writes a space marker before every word."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    names = {"pad_token": "<pad>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def make_sentencepiece():
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    template = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    pieces = pre_tokenizers.Metaspace()
    return train_tokenizer(models.Unigram(), pieces, trainer, template, **names)


def make_bpe_of(letters, **names):
    """Return a tokenizer that drops all but a few letters."""
    vocabulary = {token: i for i, token in enumerate([*names.values(), *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    if "cls_token" in names:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
        )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, **names
    )


def save_with(directory, tokenizer, architecture="bert", **config):
    """Save a tiny model with the tokenizer; return the directory."""
    from tiny_models import save_tiny_model

    save_tiny_model(directory, architecture, vocab_size=len(tokenizer), **config)
    tokenizer.save_pretrained(directory)
    return str(directory)


TOKENIZERS = {
    "bert": lambda: make_word_tokenizer("bert"),
    "roberta": lambda: make_word_tokenizer("roberta"),
    "gpt2": lambda: make_word_tokenizer("gpt2"),
    "roberta, byte BPE": lambda: make_byte_bpe("roberta"),
    "gpt2, byte BPE": lambda: make_byte_bpe("gpt2"),
    "llama, sentencepiece": make_sentencepiece,
    "byt5, no backend": transformers.ByT5Tokenizer,
    "canine, no backend": transformers.CanineTokenizer,
}

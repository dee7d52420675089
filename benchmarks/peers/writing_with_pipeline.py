"""``pipeline("text-generation")`` of transformers, one text a call or in batches."""

from pathlib import Path
from typing import Any

from common import clock, main


def write(task: dict) -> dict:
    """Time the writing of the test texts by the model as it is."""
    pipe = make(task)
    options = {
        "max_new_tokens": task["max_new_tokens"],
        "do_sample": False,
        "return_full_text": False,
        **task["options"],
    }
    pipe(task["X_test"][:2], **options)
    started = clock()
    if "batch_size" in options:
        results = pipe(task["X_test"], **options)
    else:
        results = [pipe([text], **options)[0] for text in task["X_test"]]
    seconds = clock() - started
    written = [result[0]["generated_text"] for result in results]
    return {"seconds": seconds, "written": written}


def make(task: dict) -> Any:
    """Return the pipeline; of a GGUF file with the weights made plain again."""
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,
        pipeline,
    )

    path = Path(task["model"])
    options: dict[str, Any] = {}
    if path.suffix == ".gguf":
        options = {"gguf_file": path.name}
        path = path.parent
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left", **options)
    if options:
        options["quantization_config"] = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32", **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return pipeline("text-generation", model=model, tokenizer=tokenizer)


if __name__ == "__main__":
    main(write=write)

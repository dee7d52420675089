"""A name in; a tokenizer, a configuration and a module out."""

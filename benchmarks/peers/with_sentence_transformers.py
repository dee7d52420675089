"""sentence-transformers: one embedding for each text, with its defaults.

https://sbert.net/docs/sentence_transformer/usage/usage.html
"""

from common import clock, import_backbone, main

N_WARM_UP = 16


def embed(task: dict) -> dict:
    """Time the embeddings of all test texts."""
    import_backbone(task["model"])
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(task["model"])
    model.max_seq_length = task["max_length"]
    model.encode(task["X_test"][:N_WARM_UP])
    started = clock()
    model.encode(task["X_test"])
    return {"seconds": clock() - started}


if __name__ == "__main__":
    main(embed=embed)

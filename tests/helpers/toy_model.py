"""A small PyTorch model and data, for tests of training and prediction."""

import torch
from torch import nn
from torch.nn import functional

RATES = {"learning_rate": 0.01, "head_learning_rate": 0.02}


class Toy(nn.Module):
    """A body with layer normalization and dropout, and a head; with fixed weights."""

    def __init__(self, dropout=0.1, dtype=torch.float32):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8))
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(8, 3)
        self.to(dtype)

    def forward(self, x):
        return self.head(self.dropout(torch.tanh(self.body(x))))


def cross_entropy(outputs, targets):
    """Return the loss of each row."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def make_data(n=12, dtype=torch.float32):
    """Return random rows, their classes and their weights."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 5, generator=generator, dtype=dtype)
    targets = torch.randint(0, 3, (n,), generator=generator)
    weights = torch.rand(n, generator=generator, dtype=dtype) + 0.5
    return x, targets, weights

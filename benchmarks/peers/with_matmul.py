"""What the hardware can do at most: a large matrix product, the best of many."""

from common import clock, main

SIZE = 4096
SECONDS = 2.0


def multiply(task: dict) -> dict:
    """Time a product of two square matrices in the precision of the options."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = task["options"]["precision"]
    dtype = getattr(torch, precision)
    a = torch.randn(SIZE, SIZE, device=device).to(dtype)
    b = torch.randn(SIZE, SIZE, device=device).to(dtype)
    out = a @ b
    times = []
    end = clock() + SECONDS
    while clock() < end or len(times) < 3:
        started = clock()
        torch.matmul(a, b, out=out)
        times.append(clock() - started)
    return {"seconds": min(times), "flops": 2 * SIZE**3, "precision": precision}


if __name__ == "__main__":
    main(roofline=multiply)

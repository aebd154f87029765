"""Train a small neural network on scikit-learn's digits, with resumable epochs and mini-batches.

    python examples/train_digits.py --epochs 200

Two nested marked loops: if the program is killed in the middle of an epoch it goes on in the middle of that epoch,
with the same shuffled order. Weights, momentum, the learning rate and the random generator all come back.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ckpt

Array = NDArray[np.float64]


class Network:
    """One hidden layer, softmax, momentum. Plain attributes: ckpt finds and saves them."""

    def __init__(self, inputs: int, hidden: int, classes: int, rng: np.random.Generator) -> None:
        self.weights = [rng.normal(0, inputs**-0.5, (inputs, hidden)), rng.normal(0, hidden**-0.5, (hidden, classes))]
        self.momentum = [np.zeros_like(w) for w in self.weights]

    def scores(self, x: Array) -> tuple[Array, Array]:
        hidden = np.maximum(x @ self.weights[0], 0)
        return hidden, hidden @ self.weights[1]

    def learn(self, x: Array, y: NDArray[np.int64], rate: float) -> float:
        """One step of gradient descent on a mini-batch; returns its loss."""
        hidden, scores = self.scores(x)
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = float(-np.log(chances[rows, y]).mean())
        chances[rows, y] -= 1
        upper = hidden.T @ chances / len(y)
        lower = x.T @ ((chances @ self.weights[1].T) * (hidden > 0)) / len(y)
        for weight, momentum, gradient in zip(self.weights, self.momentum, (lower, upper), strict=True):
            momentum *= 0.9
            momentum -= rate * gradient
            weight += momentum
        return loss


@ckpt.job
def train(epochs: int, batch: int, hidden: int, seed: int) -> tuple[float, list[float]]:
    """Returns the accuracy on held-out digits and the mean loss of each epoch."""
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images / 16, labels, test_size=0.25, random_state=seed)
    rng = np.random.default_rng(seed)
    network, rate = Network(x.shape[1], hidden, 10, rng), 0.1
    losses: list[float] = []
    for _ in ckpt.loop(range(epochs), name="epochs"):
        order, loss = rng.permutation(len(x)), 0.0
        starts = range(0, len(x), batch)
        for start in ckpt.loop(starts, name="batches"):
            chosen = order[start : start + batch]
            loss += network.learn(x[chosen] + rng.normal(0, 0.02, (len(chosen), 64)), y[chosen], rate)
        losses.append(loss / len(starts))
        rate *= 0.99
    accuracy = float((network.scores(x_test)[1].argmax(axis=1) == y_test).mean())
    return accuracy, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    accuracy, losses = train(options.epochs, options.batch, options.hidden, options.seed)
    print(f"accuracy {accuracy:.4f} on held-out digits after {len(losses)} epochs, last loss {losses[-1]!r}")


if __name__ == "__main__":
    main()

"""Layers, shapes, parameters and weights of a run.

    python -m twinnet.show runs/nba_keras [--weights]

Only the weights of a Keras model load Keras; in Python: `layers(build_network(run.experiment))`.
"""

import argparse
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd

from twinnet.core.errors import exit_on_error
from twinnet.core.network import STATE, Network, build_network
from twinnet.training.run import Run


def layers(network: Network) -> pd.DataFrame:
    """Return one row a layer: its kind, the shapes of its input, output and weights, how many it trains."""
    rows = []
    for layer, before, after in zip(network.layers, network.shapes(), network.shapes()[1:], strict=False):
        shapes = layer.weight_shapes(before)
        activation = getattr(layer, "activation", None)
        rows.append(
            {
                "layer": type(layer).__name__ + (f" {activation}" if activation else ""),
                "input": _shape(before),
                "output": _shape(after),
                "weights": ", ".join(f"{name} {_shape(shape)}" for name, shape in shapes.items()),
                "parameters": sum(prod(shape) for name, shape in shapes.items() if name not in STATE),
            }
        )
    return pd.DataFrame(rows)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def text(run: Run) -> str:
    """Return the summary of a run: what it trained on, its layers, how many parameters they have."""
    network = build_network(run.experiment)
    score = f"{run.split}/{run.metric} {run.metrics[f'{run.split}/{run.metric}']:.4g}"
    lines = [
        f"{run.name}: {run.dataset} ({run.metrics['data_source']} data), {run.experiment.engine.kind}, {score}",
        "",
    ]
    lines += [layers(network).to_markdown(index=False, tablefmt="simple", intfmt=",")]
    return "\n".join([*lines, "", f"{network.parameters():,} parameters", *run.notes])


def weights_text(run: Run) -> str:
    """Return every array of weights under its name: W1, b1, ...; raises DataError if the model is damaged."""
    parts = []
    for number, layer in enumerate((layer for layer in run.network().weights() if layer), start=1):
        parts += [f"{name}{number} {_shape(array.shape)}\n{np.array2string(array)}" for name, array in layer.items()]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m twinnet.show", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the directory of a finished run, e.g. runs/nba_keras")
    parser.add_argument("--weights", action="store_true", help="print the trained weights, too (long ones shortened)")
    arguments = parser.parse_args()
    with exit_on_error():
        run = Run.read(arguments.run.resolve())  # whose name is that of its folder, also of .
        print(text(run))
        if arguments.weights:
            print(f"\n{weights_text(run)}")


if __name__ == "__main__":
    main()

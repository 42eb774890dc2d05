"""One network, described once, trained by two engines."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinnet.teaching.estimator import DeepLearning

__all__ = ["DeepLearning"]


def __getattr__(name: str) -> object:
    """`from twinnet import DeepLearning` imports scikit-learn and the engine, `import twinnet` does not."""
    if name == "DeepLearning":
        from twinnet.teaching.estimator import DeepLearning

        return DeepLearning
    if name == "__version__":
        from importlib.metadata import version  # 0.02 s

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The style of every picture: fonts, colours, titles and notes; figures are saved as PNG."""

import logging
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from twinnet.core.paths import atomic_write

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

# Okabe and Ito's palette, distinct with every kind of colour vision; without its yellow (too pale on white).
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
RIGHT, WRONG = "#00734F", "#C1272D"  # green and red dark enough to read as text
GREY = "#888888"  # of what no run did: a diagonal, the most frequent class
CLASS_0_TO_1 = LinearSegmentedColormap.from_list("class_0_to_1", [BLUE, "#FFFFFF", ORANGE])

# With Chinese characters, for names of classes and columns, on Debian, macOS and Windows; the first that is there.
CHINESE_FONTS = ("Noto Sans CJK TC", "Noto Sans CJK JP", "PingFang TC", "Heiti TC", "Microsoft JhengHei")
FONTS = ["DejaVu Sans", *[font for font in CHINESE_FONTS if font in set(fontManager.get_font_names())][:1]]
if len(FONTS) == 1:  # a box is drawn for each character; `save` says so once, rather than a warning for each of them
    warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)

RC: dict[str, Any] = {
    "font.family": FONTS,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titley": 1.0,  # else Matplotlib finds the same place by measuring every tick
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.dpi": 100,
    "savefig.dpi": 120,
    "figure.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with this style whatever the user's matplotlibrc says, and leave theirs as it is."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with style.context(["default", RC]):
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, title: str, notes: Sequence[str] = ()) -> Figure:
    """An empty figure, inches wide and high, with its title above and its notes, one a line, boxed below."""
    lines = [line for note in notes for line in textwrap.wrap(note, int(width * 13))]
    figure = Figure(figsize=(width, height + 0.2 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    n_lines = len(textwrap.wrap(title, int(width * 8.5))) or 1
    balanced = textwrap.fill(title, min(int(width * 8.5), len(title) // n_lines + 8))  # no line of a single word
    figure.suptitle(balanced, fontsize=12, fontweight="bold")
    if lines:
        box = {"boxstyle": "round", "facecolor": "#FFF1D6", "edgecolor": ORANGE}
        figure.supxlabel("\n".join(lines), fontsize=9, color="#7A3B00", bbox=box)
    return figure


@styled
def save(figure: Figure, path: Path) -> Path:
    """Write a PNG whose bytes depend on the picture alone, whole or not at all; return its path."""
    if len(FONTS) == 1 and any(max(map(ord, text.get_text()), default=0) >= 0x2E80 for text in figure.findobj(Text)):
        _warn_of_missing_font()
    shown = figure.dpi
    figure.set_dpi(RC["savefig.dpi"])
    with atomic_write(path) as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})  # `savefig` goes through it twice
    figure.set_dpi(shown)
    return path


def save_all(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each figure to `folder`/<name>.png; return their paths."""
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


@cache
def _warn_of_missing_font() -> None:
    log.warning("figures: expected a font with Chinese characters; found none; install one, e.g. fonts-noto-cjk")

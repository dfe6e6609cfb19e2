"""Plot decode speed against KL: `plot.py REPORT.json PICTURE.png`, in an environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("matplotlib==3.10.8",)

FLOOR = 1e-5
"""The KL in nats at the left edge, where every build with a smaller KL is drawn too."""

COLOURS = {
    "minimind-edge": "#d1495b",
    "minimind-edge native": "#d1495b",
    "onnxruntime-genai": "#00798c",
    "llama.cpp": "#edae49",
    "OpenVINO GenAI": "#6a4c93",
    "ExecuTorch": "#ee7b30",
    "MNN": "#2a9d8f",
    "MNN native": "#2a9d8f",
    "LiteRT-LM": "#3a6ea5",
}
OTHERS = "#8d99ae"
WIDTH = 16
"""The factor in KL between two points whose names do not overlap."""

OURS = ("minimind-edge", "minimind-edge native")

LEFT_OUT = ("bare onnxruntime",)
"""The peers that are not drawn, because they run this project's graphs."""


def main(report: Path, picture: Path) -> None:
    """Draw every build that has both a speed on the report's first model and a KL."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    content = json.loads(report.read_text(encoding="utf-8"))
    model = next(iter(content["models"].values()))
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), dpi=130)
    found = points(content, model["rows"])
    for peer, _, speed, kl in found:
        axes.scatter(max(kl, FLOOR), speed, s=40, color=COLOURS.get(peer, OTHERS), marker=marker(peer), zorder=3)
    axes.set_xscale("log")
    axes.set_xlim(FLOOR / 2, max([FLOOR, *(kl for *_, kl in found)]) * 12)
    axes.set_ylim(0, max([1.0, *(speed for _, _, speed, _ in found)]) * 1.1)
    label(axes, found)
    axes.set_xlabel(f"mean KL from float32 on {content['quality'][-1]['model']}, nats; left is better", fontsize=8)
    axes.set_ylabel("decode, tokens per second", fontsize=8)
    axes.set_title(f"{model['title']}: {content['machine']['cpu']}, {content['plan']['threads']} threads", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Software": None})


def marker(peer: str) -> str:
    """The marker of a peer's points: a diamond for this project, a circle for others."""
    return "D" if peer in OURS else "o"


def label(axes: Any, found: list[tuple[str, str, float, float]]) -> None:
    """Name the points, from the fastest down, each name moved below those that it would cover."""
    height = 0.032 * axes.get_ylim()[1]
    placed: list[tuple[float, float]] = []
    for peer, build, speed, kl in sorted(found, key=lambda point: -point[2]):
        x, y = max(kl, FLOOR), speed
        near = sorted((other for where, other in placed if WIDTH > where / x > 1 / WIDTH), reverse=True)
        for other in near:
            if abs(y - other) < height:
                y = other - height
        placed.append((x, y))
        weight = "bold" if peer in OURS else "normal"
        style = {"fontsize": 7, "color": COLOURS.get(peer, OTHERS), "fontweight": weight, "va": "center"}
        axes.annotate(f"{peer} {build}", (x, y), (6, 0), textcoords="offset points", **style)


def points(content: dict, rows: list[dict]) -> list[tuple[str, str, float, float]]:
    """Peer, build, tokens per second and KL of each build that has both."""
    told = [row for table in content["quality"][-1:] for row in table["rows"]]
    divergence = {(row["peer"], row["build"]): row.get("mean_kl") for row in told}
    found = []
    for row in rows:
        kl, speed = divergence.get((row["peer"], row["build"])), row.get("decode_tokens_per_s")
        if kl is not None and speed is not None and row["peer"] not in LEFT_OUT:
            found.append((row["peer"], row["build"], speed["median"], kl))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

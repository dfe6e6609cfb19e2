"""Decode speed against KL, as a picture: `plot.py REPORT.json PICTURE.png`, in an environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PACKAGES = ("matplotlib==3.10.8",)

FLOOR = 1e-5
"""KL, nats, at which everything more exact is drawn."""

COLOURS = {
    "minimind-edge": "#d1495b",
    "onnxruntime-genai": "#00798c",
    "llama.cpp": "#edae49",
    "OpenVINO GenAI": "#6a4c93",
}
OTHERS = "#8d99ae"
LEFT_OUT = ("bare onnxruntime",)
"""The same graphs as this project's."""


def main(report: Path, picture: Path) -> None:
    """Draw every build that has both a speed on the report's first model and a KL."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    content = json.loads(report.read_text(encoding="utf-8"))
    model = next(iter(content["models"].values()))
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), dpi=130)
    for peer, build, speed, kl in points(content, model["rows"]):
        colour = COLOURS.get(peer, OTHERS)
        is_ours = peer == "minimind-edge"
        axes.scatter(
            max(kl, FLOOR), speed, s=70 if is_ours else 40, color=colour, marker="D" if is_ours else "o", zorder=3
        )
        label = f"{peer} {build}"
        axes.annotate(label, (max(kl, FLOOR), speed), (6, 4), textcoords="offset points", fontsize=7, color=colour)
    axes.set_xscale("log")
    axes.set_xlim(FLOOR / 2, 3)
    axes.set_ylim(0)
    axes.set_xlabel("mean KL from float32, nats (left is better; the edge stands for all below)", fontsize=8)
    axes.set_ylabel("decode, tokens per second", fontsize=8)
    axes.set_title(f"{model['title']}: {content['machine']['cpu']}, {content['plan']['threads']} threads", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Software": None})


def points(content: dict, rows: list[dict]) -> list[tuple[str, str, float, float]]:
    """Peer, build, tokens per second and KL of each build that has both."""
    divergence = {(row["peer"], row["build"]): row.get("mean_kl") for row in content["quality"]["rows"]}
    found = []
    for row in rows:
        kl, speed = divergence.get((row["peer"], row["build"])), row.get("decode_tokens_per_s")
        if kl is not None and speed is not None and row["peer"] not in LEFT_OUT:
            found.append((row["peer"], row["build"], speed["median"], kl))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

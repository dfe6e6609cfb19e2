"""From a checkpoint to text: export the bundled model, and ask it.

    python examples/quickstart.py [CHECKPOINT]

A checkpoint of your own is a `.pth`, a `.safetensors` or a folder; without one, the bundled demo is exported.
"""

from __future__ import annotations

import sys
from pathlib import Path

from minimind_edge.export import ExportRequest, export_onnx
from minimind_edge.runtime import Engine

checkpoint = Path(sys.argv[1]) if len(sys.argv) > 1 else None
result = export_onnx(ExportRequest(checkpoint=checkpoint, output=Path("quickstart-model"), force=True))
print(result.parity.summary() if result.parity else "not verified")

engine = Engine.load("quickstart-model")
for question in ("What is the capital of France?", "法国的首都是哪里？"):
    print(f"\n{question}")
    for piece in engine.stream(question, max_new_tokens=64, greedy=True):
        print(piece, end="", flush=True)
    print()

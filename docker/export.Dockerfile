# minimind-export on a CPU: both wheels with the extra `export`; torch without CUDA, if the build argument TORCH_INDEX names the index that
# has it. `make images` builds it.
FROM python:3.12.11-slim-bookworm

ARG TORCH_INDEX=
ENV PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1

RUN --mount=type=bind,source=dist,target=/dist \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --no-compile --disable-pip-version-check -c /constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        "$(ls /dist/minimind_edge-*.whl)[export]" /dist/minimind_edge_export-*.whl

USER 65532:65532
WORKDIR /work
ENTRYPOINT ["minimind-export"]
CMD ["--help"]

# minimind-run on a CPU: the wheel alone, as a device has it. `make images` builds it.
FROM python:3.12.11-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1

RUN --mount=type=bind,source=dist,target=/dist \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --no-compile --disable-pip-version-check -c /constraints.txt \
        /dist/minimind_edge-*.whl

USER 65532:65532
ENTRYPOINT ["minimind-run", "--engine", "/model"]
CMD ["--help"]

# minimind-serve on a CPU: the wheel with its extra `serve`, and nothing else. `make images` builds it.
FROM python:3.12.11-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1

RUN --mount=type=bind,source=dist,target=/dist \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --no-compile --disable-pip-version-check -c /constraints.txt \
        "$(ls /dist/minimind_edge-*.whl)[serve]"

USER 65532:65532
EXPOSE 8000
HEALTHCHECK --start-period=30s --interval=15s --timeout=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]

ENTRYPOINT ["minimind-serve", "--host", "0.0.0.0"]
CMD ["/model"]

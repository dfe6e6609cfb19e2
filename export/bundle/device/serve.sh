#!/bin/sh
# Serve the model by OpenAI's HTTP interface at http://127.0.0.1:8000; --help lists the options.
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/venv/bin/minimind-serve" "$here/artifact" "$@"

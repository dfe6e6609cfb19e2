#!/bin/sh
# Generate text: ./run.sh "a prompt", or ./run.sh --chat; --help lists the options.
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/venv/bin/minimind-run" --engine "$here/artifact" "$@"

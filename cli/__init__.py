"""The command-line programs `minimind-export`, `minimind-run` and `minimind-bench`.

Each command has a file of its own; `*_app.py` registers them; `entry.py` is the one place that turns an error
into a line on stderr and an exit code. Nothing heavy is imported before a command needs it: `--help` answers at once.
"""

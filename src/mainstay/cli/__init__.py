"""The command line: one module per command, `--json` and an honest exit code everywhere."""

# shellcheck shell=bash
# What every script here shares. Bash 3.2 (macOS) is enough, and nothing but Node is taken for granted.
# Set-up talks on stderr: stdout belongs to what is run in the end.

# shellcheck disable=SC2034  # for whoever includes this
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)"

say() { printf '%s\n' "$*" >&2; }

# die SENTENCE: says what happened and what to do, and ends.
die() {
  say "$1"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# A fifth of a second, for waiting loops.
pause() { sleep 0.2; }

is_alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

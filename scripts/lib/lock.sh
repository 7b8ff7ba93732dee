# shellcheck shell=bash
# One script at a time: two must neither install into the same node_modules nor start a Redis on the same data. Needs common.sh.

DATA="${LUKHAS_DATA_DIR:-$ROOT/.data}"
# The lock that is held; one at a time.
lock_held=''

# take_lock NAME: makes the data directory (for its owner only) and waits for whoever holds the lock.
take_lock() {
  (umask 077 && mkdir -p "$DATA") || die "$DATA cannot be created: make $(dirname "$DATA") writable, then run this again."
  DATA="$(cd "$DATA" && pwd -P)"
  local lock="$DATA/$1.lock" holder told=''
  while :; do
    # A link to nothing, named after the process: made or not made, in one step, with its owner in it.
    if ln -s "$$" "$lock" 2>/dev/null; then
      lock_held="$lock"
      return 0
    fi
    holder="$(readlink "$lock" 2>/dev/null)" || holder=''
    if [ -z "$holder" ]; then
      # Gone meanwhile, or it could not be made at all.
      [ -w "$DATA" ] || die "$DATA is not writable: change its owner or rights, then run this again."
    elif is_alive "$holder"; then
      [ -n "$told" ] || say "Waiting for process $holder, which is setting things up …"
      told=yes
    elif [ "$(readlink "$lock" 2>/dev/null)" = "$holder" ]; then
      rm -f "$lock" # its owner was killed
    fi
    pause
  done
}

release_lock() {
  if [ -n "$lock_held" ]; then
    rm -f "$lock_held"
    lock_held=''
  fi
}

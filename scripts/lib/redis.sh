# shellcheck shell=bash
# The Redis that scripts/start runs on: the one of REDIS_URL, or a private one with its data in .data/. Needs common.sh, lock.sh,
# packages.sh and docker.sh.
#
# In .data/: redis/ the append-only file, redis.port, redis.pid or redis.container, redis.log, and users/ with one file for each
# script that uses this Redis. The last one out stops it, whoever started it: nobody loses a Redis in use, and none is left behind.

REDIS_IMAGE="${LUKHAS_REDIS_IMAGE:-redis:7-alpine}"
REDIS_NEEDED='7.0'
REDIS_START_LIMIT_S=60

# Set by find_redis_server: the program and its version. Empty where there is none.
REDIS_SERVER=''
REDIS_VERSION=''
# One sentence: why there is no redis-server to run.
REDIS_PROBLEM=''
# Not empty once this script has launched a Redis, whose pid file may not be there yet.
redis_launched=''

redis_probe() { node "$ROOT/scripts/lib/redisProbe.mjs" "$@"; }

# Finds redis-server (or valkey-server, which speaks the same) on the PATH.
find_redis_server() {
  local name version
  for name in ${LUKHAS_REDIS_SERVER:+"$LUKHAS_REDIS_SERVER"} redis-server valkey-server; do
    have "$name" || continue
    version="$("$name" --version 2>/dev/null | sed -n 's/.* v=\([0-9][0-9.]*\).*/\1/p')" || version=''
    [ -n "$version" ] || continue
    REDIS_SERVER="$(command -v "$name")"
    REDIS_VERSION="$version"
    return 0
  done
  REDIS_SERVER=''
  REDIS_VERSION=''
  return 1
}

redis_server_is_new_enough() { [ "${REDIS_VERSION%%.*}" -ge "${REDIS_NEEDED%%.*}" ]; }

# Makes sure of a redis-server program: found, else installed. Where it cannot be had, REDIS_PROBLEM says why.
ensure_redis_server() {
  if ! find_redis_server; then
    if ! install_redis "$DATA/install.log"; then
      REDIS_PROBLEM="redis-server is not on the PATH, and $INSTALL_PROBLEM"
      return 1
    fi
    if ! find_redis_server; then
      REDIS_PROBLEM='the package was installed, but redis-server is still not on the PATH'
      return 1
    fi
  fi
  if ! redis_server_is_new_enough; then
    REDIS_PROBLEM="$REDIS_SERVER is version $REDIS_VERSION, and $REDIS_NEEDED or later is needed"
    return 1
  fi
}

# Makes sure of Redis and sets REDIS_URL. Call it with a lock held, and leave_redis at the end.
ensure_redis() {
  local problem
  if [ -n "${REDIS_URL:-}" ]; then
    problem="$(redis_probe check "$REDIS_URL")" || die "$problem"
    say "Using the Redis of REDIS_URL."
    return 0
  fi
  mkdir -p "$DATA/redis" "$DATA/users"
  DATA_REDIS="$(cd "$DATA/redis" && pwd -P)"
  : >"$DATA/users/$$" # first, so that an interrupted start leaves nothing standing either
  if private_redis_stands; then
    say "Using the Redis that stands on port $(cat "$DATA/redis.port") (data in $DATA)."
  else
    start_private_redis
  fi
  REDIS_URL="redis://127.0.0.1:$(cat "$DATA/redis.port")"
}

# True where the recorded port is answered by a Redis that works on our data. Waits for one that still loads it.
private_redis_stands() {
  local port pid='' dir code tries=0
  port="$(cat "$DATA/redis.port" 2>/dev/null)" || port=''
  pid="$(cat "$DATA/redis.pid" 2>/dev/null)" || pid=''
  if [ -n "$port" ]; then
    while :; do
      code=0
      dir="$(redis_probe dir "$port")" || code=$?
      if [ "$code" -eq 0 ] && [ "$dir" = "$DATA_REDIS" ]; then return 0; fi
      if [ "$code" -ne 2 ] || [ "$tries" -ge $((REDIS_START_LIMIT_S * 5)) ]; then break; fi
      tries=$((tries + 1))
      pause
    done
  fi
  # Two servers on one append-only file would ruin it.
  if is_redis_process "$pid"; then
    die "The Redis of $DATA (process $pid) runs but does not answer: end it with 'kill $pid' (or 'kill -9 $pid' if it hangs), then run this again."
  fi
  return 1
}

# is_redis_process PID: lives, and is no other program that was given the number since.
is_redis_process() {
  is_alive "$1" || return 1
  local name
  # It can end between two looks.
  name="$(cat "/proc/$1/comm" 2>/dev/null || ps -o comm= -p "$1" 2>/dev/null)" || return 1
  case "$name" in *redis* | *valkey*) return 0 ;; esac
  return 1
}

start_private_redis() {
  rm -f "$DATA/redis.port" "$DATA/redis.pid" "$DATA/redis.container"
  if ensure_redis_server; then
    start_redis_process
  elif docker_engine_answers; then
    say "There is no redis-server to run ($REDIS_PROBLEM): starting $REDIS_IMAGE with Docker …"
    start_redis_container
  else
    die "Redis $REDIS_NEEDED or later is needed: $REDIS_PROBLEM; and no Docker engine answers. Install Redis (Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis), start Docker, or set REDIS_URL=redis://host:port, then run this again."
  fi
}

start_redis_process() {
  local port attempt waited
  for attempt in 1 2 3 4 5; do
    port="$(redis_probe free-port)"
    : >"$DATA/redis.log"
    redis_launched=yes
    # It makes itself a daemon, in a session of its own: Ctrl-C on the terminal reaches the demo first, and Redis when that has ended.
    (
      umask 077
      "$REDIS_SERVER" --daemonize yes --pidfile "$DATA/redis.pid" --logfile "$DATA/redis.log" --dir "$DATA_REDIS" \
        --bind 127.0.0.1 --port "$port" --protected-mode yes \
        --appendonly yes --appendfsync everysec --save '' --maxmemory-policy noeviction
    ) >&2 || break
    waited=0
    while [ "$waited" -lt $((REDIS_START_LIMIT_S * 5)) ]; do
      case "$(redis_probe dir "$port" || true)" in
        "$DATA_REDIS")
          printf '%s\n' "$port" >"$DATA/redis.port"
          say "Started Redis $REDIS_VERSION on port $port (data in $DATA)."
          return 0
          ;;
        loading) [ "$waited" -ne 25 ] || say 'Redis is loading its data …' ;;
      esac
      # The pid file is written once it has bound its port, and removed when it ends.
      if [ "$waited" -gt 5 ] && ! is_redis_process "$(cat "$DATA/redis.pid" 2>/dev/null || true)"; then break; fi
      waited=$((waited + 1))
      pause
    done
    grep -q 'already in use' "$DATA/redis.log" || break
    say "Port $port was taken meanwhile; trying another one ($attempt of 5) …"
  done
  redis_launched=''
  die "$REDIS_SERVER did not start: $(last_words "$DATA/redis.log") (its log is $DATA/redis.log)."
}

start_redis_container() {
  local port name output waited=0
  port="$(redis_probe free-port)"
  # One name for one data directory: Docker itself refuses a second one.
  name="lukhas-context-$(printf '%s' "$DATA_REDIS" | cksum | cut -d ' ' -f 1)"
  docker rm --force "$name" >/dev/null 2>&1 || true
  printf '%s\n' "$name" >"$DATA/redis.container" # first, so that an interrupted start leaves nothing standing either
  # Mounted under the same path, so that CONFIG GET dir tells whose it is. It is reachable through the loopback address only.
  # The program itself, not the image's entrypoint, which would change user: the files stay those of whoever runs this.
  output="$(docker run --detach --rm --name "$name" --user "$(id -u):$(id -g)" --publish "127.0.0.1:$port:6379" \
    --volume "$DATA_REDIS:$DATA_REDIS:z" --entrypoint redis-server "$REDIS_IMAGE" --dir "$DATA_REDIS" --protected-mode no \
    --appendonly yes --appendfsync everysec --save '' --maxmemory-policy noeviction 2>&1)" ||
    container_failed "Docker could not start $REDIS_IMAGE ($(printf '%s' "$output" | tail -n 1)): check the network connection, or install Redis $REDIS_NEEDED or later, or set REDIS_URL=redis://host:port, then run this again."
  while [ "$waited" -lt $((REDIS_START_LIMIT_S * 5)) ]; do
    if [ "$(redis_probe dir "$port" || true)" = "$DATA_REDIS" ]; then
      printf '%s\n' "$port" >"$DATA/redis.port"
      say "Started Redis in the container $name on port $port (data in $DATA)."
      return 0
    fi
    [ -n "$(docker ps --quiet --filter "name=^$name\$")" ] || break
    waited=$((waited + 1))
    pause
  done
  container_failed "The container of $REDIS_IMAGE did not come up: 'docker run --rm $REDIS_IMAGE' shows why."
}

# container_failed SENTENCE
container_failed() {
  docker rm --force "$(cat "$DATA/redis.container")" >/dev/null 2>&1 || true
  rm -f "$DATA/redis.container"
  die "$1"
}

# For the end of a script: stops the private Redis unless another script still uses it.
leave_redis() {
  if [ -z "${DATA_REDIS:-}" ] || [ ! -e "$DATA/users/$$" ]; then return 0; fi
  [ -n "$lock_held" ] || take_lock redis
  rm -f "$DATA/users/$$"
  local file
  for file in "$DATA"/users/*; do
    [ -e "$file" ] || continue
    if is_alive "${file##*/}"; then
      say "Redis stays: process ${file##*/} still uses it."
      return 0
    fi
    rm -f "$file" # its owner was killed
  done
  stop_private_redis
}

# Redis flushes the append-only file to the disk before it ends.
stop_private_redis() {
  local pid container waited=0 stopped=''
  container="$(cat "$DATA/redis.container" 2>/dev/null)" || container=''
  # Interrupted right after the launch: the pid file is a moment late.
  while [ -n "$redis_launched" ] && [ ! -s "$DATA/redis.pid" ] && [ "$waited" -lt 10 ]; do
    waited=$((waited + 1))
    pause
  done
  pid="$(cat "$DATA/redis.pid" 2>/dev/null)" || pid=''
  if [ -n "$container" ]; then
    # It may be no more than created.
    docker stop -t 30 "$container" >/dev/null 2>&1 || docker rm --force "$container" >/dev/null 2>&1 ||
      say "The container $container cannot be stopped: 'docker rm --force $container' says why."
    stopped=yes
  elif is_redis_process "$pid"; then
    kill -TERM "$pid"
    while is_redis_process "$pid"; do
      if [ "$waited" -ge 150 ]; then
        say "Redis (process $pid) does not end: its log is $DATA/redis.log."
        return 0
      fi
      waited=$((waited + 1))
      pause
    done
    stopped=yes
  fi
  rm -f "$DATA/redis.port" "$DATA/redis.container"
  if [ -n "$stopped" ]; then say "Stopped Redis; its data stays in $DATA."; fi
}

# shellcheck shell=bash
# A Docker engine for CI: installed and started where none answers, and stopped again. Needs common.sh and packages.sh.

# The pid file of the engine that this script started.
docker_pidfile=''

docker_engine_answers() { have docker && docker info >/dev/null 2>&1; }

# ensure_docker_engine LOG: returns 1, with a reason said, where it cannot be had.
ensure_docker_engine() {
  local log="$1" waited=0
  if docker_engine_answers; then return 0; fi
  if ! have dockerd || ! have docker; then
    if ! have apt-get || ! can_be_root; then
      say 'No Docker engine answers, and there is no apt-get (or no right) to install one.'
      return 1
    fi
    say 'Installing a Docker engine with apt-get …'
    apt_install docker.io ca-certificates >"$log" 2>&1 || { say "The Docker engine could not be installed ($(last_words "$log"))."; return 1; }
  fi
  # The package may have started it.
  if docker_engine_answers; then return 0; fi
  say 'Starting the Docker engine …'
  docker_pidfile="$log.pid"
  # In a session of its own: Ctrl-C must not end it before the containers.
  as_root setsid dockerd --pidfile "$docker_pidfile" >"$log" 2>&1 </dev/null &
  local launcher=$!
  until docker_engine_answers; do
    if [ "$waited" -ge 300 ] || { ! is_alive "$launcher" && ! docker_runs; }; then
      say "The Docker engine does not answer ($(last_words "$log"))."
      stop_docker_engine
      return 1
    fi
    waited=$((waited + 1))
    pause
  done
}

docker_runs() { [ -s "$docker_pidfile" ] && as_root kill -0 "$(cat "$docker_pidfile")" 2>/dev/null; }

# Stops the engine if this script started it.
stop_docker_engine() {
  local waited=0
  if [ -z "$docker_pidfile" ] || ! docker_runs; then return 0; fi
  as_root kill -TERM "$(cat "$docker_pidfile")"
  while docker_runs && [ "$waited" -lt 150 ]; do
    waited=$((waited + 1))
    pause
  done
  if docker_runs; then as_root kill -KILL "$(cat "$docker_pidfile")"; fi
}

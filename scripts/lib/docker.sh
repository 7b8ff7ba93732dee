# shellcheck shell=bash
# A Docker engine for CI: installed and started where none answers, and stopped again. Needs common.sh and packages.sh.

docker_pid=''

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
  # In a session of its own: Ctrl-C must not end it before the containers.
  as_root setsid dockerd >"$log" 2>&1 </dev/null &
  docker_pid=$!
  until docker_engine_answers; do
    if ! is_alive "$docker_pid" || [ "$waited" -ge 300 ]; then
      say "The Docker engine does not answer ($(last_words "$log")); its log is $log."
      stop_docker_engine
      return 1
    fi
    waited=$((waited + 1))
    pause
  done
}

# Stops the engine if this script started it.
stop_docker_engine() {
  [ -n "$docker_pid" ] || return 0
  local pid="$docker_pid" waited=0
  docker_pid=''
  as_root kill -TERM "$pid" 2>/dev/null || true
  while is_alive "$pid" && [ "$waited" -lt 100 ]; do
    waited=$((waited + 1))
    pause
  done
  if is_alive "$pid"; then as_root kill -KILL "$pid" 2>/dev/null || true; fi
  wait "$pid" 2>/dev/null || true
}

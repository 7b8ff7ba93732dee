#!/usr/bin/env bash
# Builds a Redis image from the redis-server of this machine, for where no registry can be reached: the programs, the libraries that
# they are linked with, and nothing else. Linux only.
#
#   docker/build-redis-image.sh [NAME]     default lukhas-context/redis:local
set -euo pipefail

name="${1:-lukhas-context/redis:local}"
programs=()
for program in "${LUKHAS_REDIS_SERVER:-redis-server}" redis-cli; do
  found="$(command -v "$program")" || {
    printf '%s was not found: install Redis, then run this again.\n' "$program" >&2
    exit 1
  }
  programs+=("$(readlink -f "$found")")
done

# Built once for these programs.
sum="$(cat "${programs[@]}" | cksum | tr ' ' '-')"
if [ "$(docker image inspect --format '{{ index .Config.Labels "programs" }}' "$name" 2>/dev/null)" = "$sum" ]; then
  printf '%s\n' "$name"
  exit 0
fi

image="$(mktemp -d)"
trap 'rm -rf "$image"' EXIT
mkdir -p "$image/usr/local/bin" "$image/data" "$image/tmp" "$image/etc"
chmod 1777 "$image/tmp" "$image/data"
printf 'root:x:0:0:root:/:/\n' >"$image/etc/passwd"
cp -L "${programs[0]}" "$image/usr/local/bin/redis-server"
cp -L "${programs[1]}" "$image/usr/local/bin/redis-cli"
# ldd names each library with its path, and the loader that the programs name themselves.
for library in $(ldd "${programs[@]}" | grep -o '/[^ :()]*' | sort -u); do
  case "$library" in */redis-* | */valkey-*) continue ;; esac
  mkdir -p "$image$(dirname "$library")"
  cp -L "$library" "$image$library"
done

# As in the official image: `docker run NAME redis-server --appendonly yes` works, and no protected mode, which would refuse every
# connection that comes through a published port.
tar -C "$image" -c . | docker import \
  --change 'ENV PATH=/usr/local/bin' \
  --change 'WORKDIR /data' \
  --change 'EXPOSE 6379' \
  --change "LABEL programs=$sum" \
  --change 'CMD ["redis-server", "--protected-mode", "no"]' \
  - "$name" >/dev/null
printf '%s\n' "$name"

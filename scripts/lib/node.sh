# shellcheck shell=bash
# Node, the dependencies and the build. Needs common.sh.

NODE_NEEDED='20.19'

require_node() {
  local get="install Node.js $NODE_NEEDED or later from https://nodejs.org (or with a version manager: nvm install 22), then run this again."
  have node || die "Node.js was not found: $get"
  local version major minor
  version="$(node --version 2>/dev/null)" || die "$(command -v node) does not run: $get"
  version="${version#v}"
  major="${version%%.*}"
  minor="${version#*.}"
  minor="${minor%%.*}"
  case "$major$minor" in
    '' | *[!0-9]*) die "node --version answered '$version', which is no version: $get" ;;
  esac
  if [ "$major" -lt 20 ] || { [ "$major" -eq 20 ] && [ "$minor" -lt 19 ]; }; then
    die "Node.js $version is too old: $get"
  fi
  have npm || die "npm was not found beside Node.js $version: install npm (Debian and Ubuntu: apt-get install npm), then run this again."
}

# Runs npm ci where node_modules is not what package-lock.json says.
install_dependencies() {
  if node "$ROOT/scripts/lib/dependenciesMatch.mjs" "$ROOT"; then return 0; fi
  say 'Installing the dependencies (npm ci) …'
  # --include=dev: the build needs them, also where NODE_ENV=production is set.
  (cd "$ROOT" && npm ci --include=dev --no-audit --no-fund --no-update-notifier --loglevel=error \
    --fetch-retry-mintimeout=2000 --fetch-retry-maxtimeout=10000) >&2 ||
    die "The dependencies could not be installed (npm says why above): check the network connection, npm's registry and proxy settings and that $ROOT is writable, then run this again."
}

# Compiles to dist/ where a source is newer than the last build.
build_if_needed() {
  local stamp="$ROOT/dist/.built" input
  local inputs=()
  for input in src queues tsconfig.json tsconfig.build.json package.json package-lock.json; do
    if [ -e "$ROOT/$input" ]; then inputs+=("$ROOT/$input"); fi
  done
  # A folder is newer too when a file was removed from it.
  if [ -f "$stamp" ] && [ -z "$(find "${inputs[@]}" -newer "$stamp" -print | head -n 1)" ]; then return 0; fi
  say 'Building …'
  # The stamp's time is the start of the build: what is edited meanwhile is built again next time.
  local begun="$ROOT/node_modules/.built.$$"
  : >"$begun"
  if ! (cd "$ROOT" && npm run --silent build) >&2; then
    rm -f "$begun"
    die "The build failed (the compiler says why above): 'npm run build' repeats it."
  fi
  mv "$begun" "$stamp"
}

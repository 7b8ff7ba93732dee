# shellcheck shell=bash
# Installing system packages, with a line that says what happens and a reason where it cannot be. Needs common.sh.

# Why the last installation did not work, for the sentence that the caller ends with.
INSTALL_PROBLEM=''

# as_root COMMAND…: as it is for root, with sudo otherwise. Without a terminal sudo may not ask for a password.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

can_be_root() { [ "$(id -u)" -eq 0 ] || have sudo; }

# apt_install PACKAGE…
apt_install() {
  as_root apt-get update -qq || true # one broken source out of several need not matter; the installation tells
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# install_redis LOG: with the first of apt-get, dnf, apk and brew that can. Debian's and Ubuntu's package starts a Redis of its own on port
# 6379; it is left alone.
install_redis() {
  local log="$1" manager problem=''
  for manager in apt-get dnf apk brew; do
    have "$manager" || continue
    if [ "$manager" != brew ] && ! can_be_root; then
      problem="$problem$manager needs root rights and there is no sudo; "
      continue
    fi
    say "Redis was not found on the PATH: installing it with $manager …"
    if case "$manager" in
      apt-get) apt_install redis-server ;;
      dnf) as_root dnf install -y -q redis || as_root dnf install -y -q valkey ;;
      apk) as_root apk add --quiet redis ;;
      brew) brew install --quiet redis ;;
    esac >"$log" 2>&1; then
      return 0
    fi
    problem="$problem$manager could not install it ($(last_words "$log")); "
  done
  INSTALL_PROBLEM="${problem%; }"
  [ -n "$INSTALL_PROBLEM" ] || INSTALL_PROBLEM='there is none of apt-get, dnf, apk and brew to install it with'
  return 1
}

# ensure_crc32: the command that docs/REDIS_CLI.md compares checksums with. Without it one test of that page fails, and says so.
ensure_crc32() {
  have crc32 && return 0
  say 'The crc32 command was not found: installing it …'
  if have apt-get && can_be_root; then
    apt_install libarchive-zip-perl
  elif have dnf && can_be_root; then
    as_root dnf install -y -q perl-Archive-Zip
  elif have apk && can_be_root; then
    as_root apk add --quiet perl-archive-zip
  fi >/dev/null 2>&1 || true
  have crc32 || say 'It could not be installed (it comes with Archive::Zip for Perl); the test of docs/REDIS_CLI.md needs it.'
}

# last_words FILE: its last line that says something, for one sentence.
last_words() {
  local words
  words="$(grep -v '^[[:space:]]*$' "$1" 2>/dev/null | tail -n 1 | cut -c 1-160)" || true
  printf '%s' "${words:-no reason given}"
}

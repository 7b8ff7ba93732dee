# shellcheck shell=bash
# All of scripts/lib, for scripts/start, scripts/test and .ci/run.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$(dirname "${BASH_SOURCE[0]}")/lock.sh"
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
. "$(dirname "${BASH_SOURCE[0]}")/docker.sh"
. "$(dirname "${BASH_SOURCE[0]}")/redis.sh"

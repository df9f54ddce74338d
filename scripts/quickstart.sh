#!/usr/bin/env bash
# Installs everything, then runs the main job on a small picture world that the package draws itself: an English
# teacher, five languages one after another by four methods, the report in outputs/quickstart. Options go to mlvl-quickstart.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$repository"
mlvl-quickstart --output outputs/quickstart "$@"

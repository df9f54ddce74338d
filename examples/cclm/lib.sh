# What the scripts of this folder share; sourced, not run. begin COUNT USAGE ARGUMENT... checks how a script was called.
source "$(dirname "${BASH_SOURCE[0]}")/../mclip/lib.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Runs a task of the published run.py: published TASK WORD..., where the words are those of the script.
published() {
  begin 0 "" "${@:2}"
  exec python "$here/run.py" "$@"
}

#!/usr/bin/env bash
# The steps of action.yml: `key` names the build for the cache, `install` builds the harness, `run` runs the scenarios.
# Reads INPUT_* and what GitHub sets (RUNNER_TEMP, RUNNER_OS). Runs on macOS's bash 3.2 as well.
set -eo pipefail

source_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
install_root="${RUNNER_TEMP:?RUNNER_TEMP is not set: this is run by action.yml}/harness-root"

case "${INPUT_BROKER:-auto}" in
container*) features=container ;;
*) features="" ;;
esac

# Adds each line of $1 that is not blank to `words`, as it stands but for blanks at its ends.
add_lines() {
    local line
    while read -r line || [ -n "$line" ]; do
        [ -z "$line" ] || words+=("$line")
    done <<<"$1"
}

case "$1" in
key)
    # By the sources and not by the ref, since a branch moves; by the system's image, since the bundled broker links its OpenSSL.
    cd "$source_root"
    sources="$(find Cargo.toml Cargo.lock device-core sim-device harness -type f -not -path 'harness/examples/*' -print0 |
        LC_ALL=C sort -z | xargs -0 cat | git hash-object --stdin)"
    echo "key=harness-${ImageOS:-$RUNNER_OS}-${RUNNER_ARCH:-unknown}-${features:-default}-$sources"
    ;;
install)
    if ! command -v rustup >/dev/null 2>&1; then
        curl --proto '=https' --tlsv1.2 -sSf --retry 3 https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    rustup toolchain install stable --profile minimal --no-self-update
    # A firmware repository often sets a toolchain and a target of its own; the harness runs here, not on the board.
    unset CARGO_BUILD_TARGET RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    export RUSTUP_TOOLCHAIN=stable CARGO_TARGET_DIR="$RUNNER_TEMP/harness-target"
    # The profile that the harness is tested with; it also builds sooner.
    cargo install --locked --debug --path "$source_root/harness" --features "$features" --root "$install_root"
    ;;
run)
    words=(--broker "${INPUT_BROKER:-auto}" --junit "${INPUT_JUNIT:-harness-junit.xml}" --traces "${INPUT_TRACES:-harness-traces}")
    add_lines "$INPUT_ARGS"
    # What follows is a path, also where it begins with a dash.
    words+=(--)
    add_lines "${INPUT_PATHS:-scenarios}"
    exec "$install_root/bin/harness" run "${words[@]}"
    ;;
*)
    echo "action: key, install or run, not '$1'" >&2
    exit 2
    ;;
esac

#!/usr/bin/env bash
# Installs what a full test run uses beside Rust: a Mosquitto to drive, its clients, openssl, and the C side of the bundled Mosquitto.
# Debian and Ubuntu by apt, macOS by Homebrew. Safe to run again; does nothing where everything is there.
set -euo pipefail

have() { PATH="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin" command -v "$1" >/dev/null 2>&1; }

if have mosquitto && have mosquitto_sub && have openssl && have cc && have perl && have make && have pkg-config; then
    echo "install: everything is there"
    exit 0
fi

case "$(uname -s)" in
Linux)
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    # The package would start a broker of its own on port 1883; the tests start theirs, on free ports.
    policy=/usr/sbin/policy-rc.d
    made_policy=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
        $sudo chmod 755 "$policy"
        made_policy=yes
    fi
    trap '[ -z "$made_policy" ] || $sudo rm -f "$policy"' EXIT
    $sudo apt-get -o DPkg::Lock::Timeout=300 update -q
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends \
        mosquitto mosquitto-clients openssl gcc libc6-dev make perl pkg-config libssl-dev
    ;;
Darwin)
    brew install mosquitto openssl@3 pkg-config
    ;;
*)
    echo "install: no recipe for $(uname -s); install Mosquitto 2.x by hand and set MOSQUITTO_BIN" >&2
    exit 1
    ;;
esac

#!/usr/bin/env bash
# Runs ci/nvs.py with Espressif's NVS generator, which it installs into a folder of its own that goes again.
#
#   ci/nvs.sh [IMAGE]     the image is firmware/target/virt.elf (ci/firmware.sh virt)
set -euo pipefail
cd "$(dirname "$0")/.."

tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check esp-idf-nvs-partition-gen==0.3.0
"$tools/bin/python" ci/nvs.py "$@"

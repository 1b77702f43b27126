#!/usr/bin/env bash
# Shows why the firmware builds Mbed TLS itself: the image with the prebuilt library, which has no clock, connects to a broker whose
# certificate has expired, so that the scenario fails on it; the image that people are given refuses that broker.
set -euo pipefail
cd "$(dirname "$0")/.."
ci/firmware.sh --prebuilt virt
traces="$(mktemp -d)"
trap 'rm -rf "$traces"' EXIT
verdicts() {
    cargo run --locked --quiet -p harness -- run --target qemu --json --firmware "firmware/target/$1.elf" --traces "$traces" \
        --filter 'broker-certificate[server=expired' scenarios | grep -o '"verdict":"[a-z-]*"' | sort | uniq -c | tr -s ' \n' ' ' || true
}
ours="$(verdicts virt)"
theirs="$(verdicts virt-prebuilt)"
echo "cert-dates: an expired broker, TLS 1.2 and 1.3: ours$ours; the prebuilt library$theirs"
[ "$ours" = ' 2 "verdict":"pass" ' ] && [ "$theirs" = ' 2 "verdict":"fail" ' ]

#!/usr/bin/env bash
# Fuzzes the CA's and the twin's HTTP with schemathesis, against their OpenAPI documents: no 500, no answer that is not described.
# Installs schemathesis 4 into a folder of the build's where it is not installed.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
cd "$root"
cargo build --locked --quiet -p harness -p sim-device
bin="$(cd "${CARGO_TARGET_DIR:-target}/debug" && pwd)"
home="$(mktemp -d)"
if ! command -v schemathesis >/dev/null; then
    venv="$bin/../schemathesis"
    [ -x "$venv/bin/schemathesis" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis>=4,<5'; }
    PATH="$venv/bin:$PATH"
fi
# The fuzzer leaves a cache where it runs.
cd "$home"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$home"' EXIT

# A token is good for one device: each request of the fuzzer takes the next.
seq -f token-%.0f 10000 >"$home/tokens"
"$bin/harness" ca --json --listen 127.0.0.1:0 --out "$home" --token-file "$home/tokens" >"$home/ca.log" &
pids+=($!)
for _ in $(seq 100); do [ -s "$home/ca.log" ] && [ -s "$home/ca.crt" ] && break; sleep 0.1; done
ca="$(sed -n '1s/.*"url":"\([^"]*\)".*/\1/p' "$home/ca.log")"
[ -n "$ca" ] || { echo "api: the CA did not start" >&2; exit 1; }
BACKEND_URL="$ca" BACKEND_CA="$home/ca.crt" MQTT_HOST=localhost \
    "$bin/sim-device" --state "$home/device" </dev/null >"$home/device.log" &
pids+=($!)
device=""
for _ in $(seq 100); do device="$(grep -o '127\.0\.0\.1:[0-9]*' "$home/device.log" | head -1 || true)"; [ -n "$device" ] && break; sleep 0.1; done
[ -n "$device" ] || { echo "api: the device did not start" >&2; exit 1; }

cat >"$home/next_token.py" <<'PY'
import itertools
import schemathesis

numbers = itertools.count(1)


@schemathesis.hook
def before_call(context, case, kwargs):
    number = next(numbers)
    # A header given on the command line would come before this one.
    if case.path == "/sign-csr" and number % 10:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer token-{number}"}
PY

# What is not asked: that every CSR a fuzzer makes up is certified, nor every password of 64 letters taken (limits are in bytes); and a
# device cannot tell a good user token from another.
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method
fuzz() { schemathesis run "$@" --checks "$checks" --max-examples 200; }
PYTHONPATH="$home" SCHEMATHESIS_HOOKS=next_token fuzz "$root"/harness/openapi/ca.yaml --url "$ca" --tls-verify "$home/ca.crt"
fuzz "$root"/harness/openapi/device.yaml --url "http://$device" --header "Authorization: Bearer user-token"

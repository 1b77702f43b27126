#!/usr/bin/env bash
# Installs and starts a container engine (Debian, as root), with an image of Mosquitto in it, for `harness run --broker container`.
#
#     eval "$(ci/engine.sh start [docker|podman])"      installs, starts and says what to export; does only what is still to do
#     ci/engine.sh stop                                 ends the engine that `start` started, by its process number
#
# Where an engine answers already (DOCKER_HOST, or the usual socket) that one is used. The image is HARNESS_MOSQUITTO_IMAGE if the
# engine has it, else one made from the installed Mosquitto (ci/mosquitto-image.sh): no registry is asked.
# $HARNESS_ENGINE_DIR holds everything of the engine [default: /var/lib/harness-engine]; remove it after `stop` to leave nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
dir="${HARNESS_ENGINE_DIR:-/var/lib/harness-engine}"
socket="$dir/engine.sock"
pid_file="$dir/engine.pid"

say() { echo "engine: $*" >&2; }
die() { say "$*"; exit 1; }

# When a process began, if it runs: field 22, counted after its name, which may hold anything. A zombie runs no more.
began() {
    local stat
    stat="$(cat "/proc/$1/stat" 2>/dev/null)" || return 1
    read -r -a stat <<<"${stat##*) }"
    [ "${stat[0]}" != Z ] && echo "${stat[19]}"
}

# Remembers a process as the engine.
remember() { echo "$1 $(began "$1")" >"$pid_file"; }

# The process that `start` started, if it still runs (its number may have gone to a stranger).
running() {
    local pid then
    read -r pid then 2>/dev/null <"$pid_file" || return 1
    [ -n "$then" ] && [ "$(began "$pid")" = "$then" ] && echo "$pid"
}

answers() { DOCKER_HOST="$1" timeout 5 docker version >/dev/null 2>&1; }

install() {
    local missing=()
    for package in "$@"; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
    [ "${#missing[@]}" -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "installing ${missing[*]} needs root"
    say "installing ${missing[*]}"
    # The package would start an engine of its own.
    local policy=/usr/sbin/policy-rc.d made=""
    if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; made=yes; fi
    local apt=(apt-get -o DPkg::Lock::Timeout=300 -q)
    local done=0
    { timeout 300 "${apt[@]}" update && DEBIAN_FRONTEND=noninteractive timeout 600 "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >&2 || done=$?
    [ -z "$made" ] || rm -f "$policy"
    [ "$done" = 0 ] || die "could not install ${missing[*]}"
}

# Waits for a condition, at most 30 s.
await() {
    local until=$((SECONDS + 30))
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.1
    done
}

start_docker() {
    mkdir -p "$dir"
    local storage
    for storage in overlay2 vfs; do
        setsid nohup dockerd --data-root "$dir/docker-$storage" --exec-root "$dir/exec" -p "$dir/dockerd.pid" -H "unix://$socket" \
            --storage-driver="$storage" </dev/null >"$dir/engine.log" 2>&1 &
        remember $!
        disown
        # Up, or dead: whichever comes first.
        up_or_dead() { answers "unix://$socket" || ! running >/dev/null; }
        if await up_or_dead && running >/dev/null; then return 0; fi
        stop
    done
    tail -n 5 "$dir/engine.log" >&2
    die "dockerd does not start"
}

start_podman() {
    mkdir -p "$dir"
    # Podman asks for more files and processes than a container without CAP_SYS_RESOURCE may have, and crun refuses hybrid cgroups.
    cat >"$dir/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=32768:32768"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
CONF
    CONTAINERS_CONF="$dir/containers.conf" setsid nohup podman --root "$dir/podman" --runroot "$dir/podman-run" \
        --network-config-dir "$dir/podman-net" system service --time=0 "unix://$socket" </dev/null >"$dir/engine.log" 2>&1 &
    remember $!
    disown
    up_or_dead() { answers "unix://$socket" || ! running >/dev/null; }
    { await up_or_dead && running >/dev/null; } || { tail -n 5 "$dir/engine.log" >&2; stop; die "podman does not start"; }
}

stop() {
    local pid
    if pid="$(running)"; then
        kill "$pid"
        gone() { ! running >/dev/null; }
        await gone || kill -KILL "$pid"
        say "stopped process $pid"
    fi
    rm -f "$pid_file" "$socket"
}

start() {
    local kind="${1:-docker}" host=""
    for host in "${DOCKER_HOST:-}" "unix://$socket" unix:///var/run/docker.sock ""; do
        [ -z "$host" ] || ! answers "$host" || break
    done
    if [ -z "$host" ]; then
        stop
        case "$kind" in
        docker) install docker.io iptables; start_docker ;;
        podman) install podman runc conmon netavark aardvark-dns iptables golang-github-containers-common; start_podman ;;
        *) die "there is no engine called $kind; say docker or podman" ;;
        esac
        host="unix://$socket"
    fi
    say "$(DOCKER_HOST="$host" timeout 10 docker version --format '{{(index .Server.Components 0).Name}} {{.Server.Version}} (API {{.Server.APIVersion}})') at $host"

    local image="${HARNESS_MOSQUITTO_IMAGE:-}"
    if [ -z "$image" ] || ! DOCKER_HOST="$host" timeout 10 docker image inspect "$image" >/dev/null 2>&1; then
        install mosquitto busybox-static
        # Its name says what it is, and that no registry has it.
        image="localhost/mosquitto-stand-in:$(PATH="$PATH:/usr/sbin" mosquitto -h | sed -n 's/^mosquitto version //p' || true)"
        DOCKER_HOST="$host" ci/mosquitto-image.sh "$image" docker
    fi
    printf 'export DOCKER_HOST=%q HARNESS_MOSQUITTO_IMAGE=%q\n' "$host" "$image"
}

case "${1:-}" in
start) shift; start "$@" ;;
stop) stop ;;
*) die "say start or stop" ;;
esac

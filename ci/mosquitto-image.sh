#!/usr/bin/env bash
# Makes a container image from the Mosquitto that is installed here, for machines that reach no registry. It stands in for
# eclipse-mosquitto 2.0: the same user, folders, entry point and command; glibc instead of musl, and Debian's version.
#
#     ci/mosquitto-image.sh TAG [ENGINE…]       ENGINE: docker, or podman with its options [default: docker]
#
# Needs mosquitto and busybox-static. Takes about 1 s; does nothing where the image is there.
set -euo pipefail

tag="${1:?say how to name the image}"
shift
[ "$#" -gt 0 ] || set -- docker
if timeout 30 "$@" image inspect "$tag" >/dev/null 2>&1; then
    echo "mosquitto-image: $tag is there" >&2
    exit 0
fi

mosquitto="$(PATH="$PATH:/usr/sbin" command -v mosquitto)" || { echo "mosquitto-image: install mosquitto" >&2; exit 1; }
busybox="$(command -v busybox)" || { echo "mosquitto-image: install busybox-static" >&2; exit 1; }
if ldd "$busybox" >/dev/null 2>&1; then
    echo "mosquitto-image: $busybox is not static; install busybox-static" >&2
    exit 1
fi

root="$(mktemp -d)"
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,etc,tmp,usr/sbin,usr/bin,mosquitto/{config,data,log}}
chmod 755 "$root"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
for applet in sh chown id cat ls kill; do ln -s busybox "$root/bin/$applet"; done

# A program, and every library it is linked with, each where its loader looks for it.
add() {
    install -D -m 755 "$1" "$root/$2"
    ldd "$1" | grep -o '/[^ ]*' | sort -u | while read -r library; do
        [ -e "$root$library" ] || install -D -m 755 "$library" "$root$library"
    done
}
add "$mosquitto" usr/sbin/mosquitto
if [ -f /etc/ssl/openssl.cnf ]; then install -D -m 644 /etc/ssl/openssl.cnf "$root/usr/lib/ssl/openssl.cnf"; fi

printf 'root:x:0:0::/:/bin/sh\nmosquitto:x:1883:1883::/mosquitto:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nmosquitto:x:1883:\n' >"$root/etc/group"
printf 'listener 1883\nallow_anonymous true\n' >"$root/mosquitto-no-auth.conf"
printf '# Empty: only clients on this machine, on port 1883.\n' >"$root/mosquitto/config/mosquitto.conf"
cat >"$root/docker-entrypoint.sh" <<'ENTRYPOINT'
#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then chown -R mosquitto:mosquitto /mosquitto; fi
exec "$@"
ENTRYPOINT
chmod 755 "$root/docker-entrypoint.sh"

# Checked here, where the message is seen, and not when the first broker does not start.
said="$(chroot "$root" /usr/sbin/mosquitto -h 2>&1 || true)"
[[ "$said" == "mosquitto version 2."* ]] || { echo "mosquitto-image: what was copied does not run: $said" >&2; exit 1; }
tar -C "$root" --numeric-owner --owner=0 --group=0 -c . | timeout 60 "$@" import \
    --change 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENTRYPOINT ["/docker-entrypoint.sh"]' \
    --change 'CMD ["/usr/sbin/mosquitto","-c","/mosquitto/config/mosquitto.conf"]' \
    --change 'EXPOSE 1883' --change 'VOLUME /mosquitto/data' --change 'VOLUME /mosquitto/log' \
    - "$tag" >/dev/null
echo "mosquitto-image: made $tag" >&2

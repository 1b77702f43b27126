#!/usr/bin/env bash
# Builds device-core for the ESP32-C3's instruction set, to prove that it needs neither std nor atomics.
# Uses rustup's target where rustup can add it, else Debian's rustc-web, for which core and alloc are built once (about 20 s).
set -euo pipefail
cd "$(dirname "$0")/.."
target=riscv32imc-unknown-none-elf
out="${CARGO_TARGET_DIR:-target}/bare-metal"

installed() { [ -n "$(find "$("$1" --print sysroot)/lib/rustlib/$target/lib" -name 'libcore-*.rlib' 2>/dev/null | head -n 1)" ]; }

rustc=""
if installed rustc; then
    rustc=rustc
elif [ -x /usr/bin/rustc ] && installed /usr/bin/rustc; then
    rustc=/usr/bin/rustc
elif command -v rustup >/dev/null && timeout 60 rustup target add "$target" 2>/dev/null && installed rustc; then
    rustc=rustc
elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get -o DPkg::Lock::Timeout=300 update -q
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends \
        rustc-web cargo-web rust-web-src lld-19
    rustc=/usr/bin/rustc
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/bin" "$work/src"
    ln -sf /usr/lib/llvm-19/bin/lld "$work/bin/rust-lld"
    printf '[package]\nname = "sysroot"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "src/lib.rs"\n' >"$work/Cargo.toml"
    echo '#![no_std]' >"$work/src/lib.rs"
    # Bitcode inside, or link-time optimisation of a firmware image fails later.
    (cd "$work" && PATH="$work/bin:/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
        CARGO_TARGET_DIR="$work/target" /usr/bin/cargo build --quiet -Zbuild-std=core,alloc \
        -Zbuild-std-features=compiler-builtins-mem --release --target "$target")
    lib="$(/usr/bin/rustc --print sysroot)/lib/rustlib/$target/lib"
    mkdir -p "$lib"
    cp "$work/target/$target/release/deps/"lib{core,alloc,compiler_builtins}-*.rlib "$lib/"
else
    echo "bare-metal: install the target first: rustup target add $target" >&2
    exit 1
fi

cargo=cargo
[ "$rustc" = rustc ] || cargo="$(dirname "$rustc")/cargo"
echo "bare-metal: $("$rustc" --version), $target"
RUSTC="$rustc" "$cargo" build --locked --release --target "$target" --target-dir "$out" -p device-core
echo "bare-metal: device-core builds"

#!/usr/bin/env bash
# Builds the firmware for each board named, leaves the image at firmware/target/BOARD.elf, and fails when it is over firmware/budgets.toml.
# For the esp32c3 also what is flashed: firmware/target/esp32c3.bin in one file, from offset 0, and firmware/target/esp32c3 in parts. Installs
# what that takes, once: the target (rustup's where rustup can add it, else Debian's compiler, for which core and alloc are built: 20 s),
# QEMU, and the C side of Mbed TLS.
#
#   ci/firmware.sh [--check] [--prebuilt] [BOARD...]    virt, esp32c3; virt when none is named
#
# --check     format, lints, and the tests of what runs on this machine too
# --prebuilt  with the Mbed TLS that comes with its crate, at firmware/target/BOARD-prebuilt.elf: it takes expired certificates (ci/cert-dates.sh)
#
# CARGO_TARGET_DIR is kept to: the firmware then builds in its folder `firmware`.
set -euo pipefail
cd "$(dirname "$0")/.."

target=riscv32imc-unknown-none-elf
llvm=/usr/lib/llvm-19
check=""
prebuilt=""
boards=()
for argument in "$@"; do
    case "$argument" in
    --check) check=yes ;;
    --prebuilt) prebuilt=yes ;;
    -*) echo "firmware: usage: ci/firmware.sh [--check] [--prebuilt] [BOARD...]" >&2; exit 2 ;;
    *) boards+=("$argument") ;;
    esac
done
[ "${#boards[@]}" -gt 0 ] || boards=(virt)
for board in "${boards[@]}"; do
    [ ! -d "firmware/boards/$board" ] || continue
    echo "firmware: no board $board; there are: $(ls firmware/boards | paste -sd ' ')" >&2
    exit 2
done

out="$PWD/firmware/target"
[ -z "${CARGO_TARGET_DIR:-}" ] || out="$(mkdir -p "$CARGO_TARGET_DIR" && cd "$CARGO_TARGET_DIR" && pwd)/firmware"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

have() { command -v "$1" >/dev/null 2>&1; }

# Says no at once where there is no apt, and nothing where there is nothing to install.
install() {
    if ! have apt-get; then
        echo "firmware: install these first: $*" >&2
        exit 1
    fi
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -o DPkg::Lock::Timeout=300 update -q
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends "$@"
}

# Whether a compiler can compile for the target: a folder that is there may be another version's.
compiles() { echo '#![no_std]' | "$1" --target "$target" --crate-type lib --crate-name probe --out-dir "$work" - 2>/dev/null; }

# core and alloc for Debian's compiler, with its own linker beside it. Bitcode inside, or link-time optimisation of an image fails.
build_core() {
    local host libraries sysroot=/usr/lib/rustlib
    host="$(/usr/bin/rustc -vV | sed -n 's/^host: //p')"
    libraries="$sysroot/$target/lib"
    mkdir -p "$work/core/src" "$sysroot/$host/bin" "$libraries"
    ln -sf "$llvm/bin/lld" "$sysroot/$host/bin/rust-lld"
    printf '[package]\nname = "sysroot"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "src/lib.rs"\n' >"$work/core/Cargo.toml"
    echo '#![no_std]' >"$work/core/src/lib.rs"
    (cd "$work/core" && PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
        RUSTFLAGS="-C embed-bitcode=yes -C force-frame-pointers=yes" /usr/bin/cargo build --quiet --release --target "$target" \
        -Zbuild-std=core,alloc -Zbuild-std-features=compiler-builtins-mem)
    rm -f "$libraries"/*.rlib
    cp "$work/target/$target/release/deps/"lib{core,alloc,compiler_builtins}-*.rlib "$libraries/"
    # Cargo cannot see that core has changed.
    rm -rf "${out:?}/$target"
}

if ! compiles rustc && ! { have rustup && timeout 60 rustup target add "$target" && compiles rustc; }; then
    if ! { [ -x /usr/bin/rustc ] && compiles /usr/bin/rustc; }; then
        install rustc-web cargo-web rust-web-src lld-19
        build_core
    fi
    export PATH="/usr/bin:$PATH"
fi
# Bindings to C are formatted as they are made; linting needs the linter of the same compiler.
bin="$(dirname "$(command -v rustc)")"
for tool in rustfmt ${check:+cargo-fmt cargo-clippy}; do
    "$bin/$tool" --version >/dev/null 2>&1 && continue
    case "$bin" in
    /usr/bin) install rustfmt-web ${check:+rust-web-clippy} ;;
    *) rustup component add rustfmt ${check:+clippy} ;;
    esac
    break
done
export PATH="$llvm/bin:$PATH" LIBCLANG_PATH="${LIBCLANG_PATH:-$llvm/lib}"
for tool in qemu-system-riscv32 clang llvm-ar cmake ninja python3; do
    have "$tool" && compgen -G "$LIBCLANG_PATH/libclang*.*" >/dev/null && continue
    install qemu-system-misc clang-19 libclang-19-dev llvm-19 cmake ninja-build python3
    break
done

echo "firmware: $(rustc --version), $target"
cd firmware
export CARGO_TARGET_DIR="$out"
host="$(rustc -vV | sed -n 's/^host: //p')"
mkdir -p target
if [ -n "$check" ]; then
    "$bin/cargo-fmt" --all --check
    "$bin/cargo-clippy" clippy --locked --target "$host" -p app -p image --all-targets -- -D warnings
    cargo test --locked --target "$host" -p app -p image
fi
for board in "${boards[@]}"; do
    # One at a time: the boards' critical sections are not the same.
    manifest="boards/$board/Cargo.toml"
    [ -z "$check" ] || "$bin/cargo-clippy" clippy --locked --release --manifest-path "$manifest" -- -D warnings
    cargo build --locked --release --manifest-path "$manifest" ${prebuilt:+--no-default-features --features prebuilt}
    image="target/$board${prebuilt:+-prebuilt}.elf"
    cp "$out/$target/release/$board" "$image.new"
    mv -f "$image.new" "$image"
    echo "firmware: firmware/$image (${SECONDS} s)"
    [ -z "$prebuilt" ] || continue
    cargo build --locked --quiet --target "$host" -p image
    image() { "$out/$host/debug/image" "$@"; }
    case "$board" in
    esp32c3)
        image make "$board" "$image" budgets.toml "target/$board" "target/$board.bin"
        cat <<FLASH
firmware: flash it with either of (python3 -m pip install esptool)
    esptool --chip esp32c3 --baud 460800 write-flash 0x0 firmware/target/esp32c3.bin
    (cd firmware/target/esp32c3 && esptool --chip esp32c3 --baud 460800 write-flash 0x0 bootloader.bin 0x8000 partition-table.bin 0x10000 esp32c3.bin)
firmware: the first erases what the device keeps, the second leaves it
FLASH
        ;;
    *)
        image weigh "$board" "$image" budgets.toml
        # For fake-wokwi-server, whose board has the image at the beginning of its flash.
        mkdir -p "target/$board"
        echo "{\"flash_settings\":{\"flash_size\":\"4MB\"},\"flash_files\":{\"0x0\":\"../$board.elf\"}}" >"target/$board/flasher_args.json"
        ;;
    esac
done

#!/usr/bin/env python3
"""Whether the firmware's storage is ESP-IDF's: an image of Espressif's generator boots as what it says, and what the firmware writes
is read here by ESP-IDF's documented format, every checksum included. Needs the generator (PyPI: esp-idf-nvs-partition-gen), QEMU, an image.

    ci/nvs.py [firmware/target/virt.elf]
"""
import json, os, selectors, struct, subprocess, sys, tempfile, time, zlib

IMAGE = sys.argv[1] if len(sys.argv) > 1 else "firmware/target/virt.elf"
SIZE, PAGE, ENTRY = 0x6000, 4096, 32
LIMIT_S = 30
U8, U32, STRING, BLOB_DATA, BLOB_INDEX = 0x01, 0x04, 0x21, 0x42, 0x48


def crc(data):
    return zlib.crc32(data, 0xFFFFFFFF)


def read(image):
    """Everything stored, by namespace and key; stops at whatever ESP-IDF would not accept."""
    names, found, blobs = {}, {}, {}
    for start in range(0, len(image), PAGE):
        page = image[start : start + PAGE]
        state, _sequence, version = struct.unpack_from("<IIB", page)
        if state == 0xFFFFFFFF:
            continue
        assert state in (0xFFFFFFFE, 0xFFFFFFFC, 0xFFFFFFF8), f"page {start // PAGE}: state {state:#x}"
        assert version == 0xFE, f"page {start // PAGE}: version {version:#x}, not NVS's second"
        assert crc(page[4:28]) == struct.unpack_from("<I", page, 28)[0], f"page {start // PAGE}: header checksum"
        n = 0
        while n < 126:
            # Two bits an entry: 11 empty, 10 written, 00 erased.
            bits = page[32 + n // 4] >> (n % 4 * 2) & 3
            at = 64 + n * ENTRY
            n += 1
            if bits != 0b10:
                continue
            entry = page[at : at + ENTRY]
            namespace, kind, span, chunk = entry[:4]
            assert crc(entry[:4] + entry[8:]) == struct.unpack_from("<I", entry, 4)[0], f"entry at {start + at:#x}: checksum"
            key = entry[8:24].split(b"\0")[0].decode()
            place = (names.get(namespace, namespace), key)
            if namespace == 0:
                names[entry[24]] = key
            elif kind in (STRING, BLOB_DATA):
                size, check = struct.unpack_from("<H2xI", entry, 24)
                data = page[at + ENTRY : at + ENTRY + size]
                assert crc(data) == check, f"{place}: checksum of its {size} bytes"
                if kind == STRING:
                    found[place] = data
                else:
                    blobs.setdefault(place, {})[chunk] = data
            elif kind == BLOB_INDEX:
                size, count, first = struct.unpack_from("<IBB", entry, 24)
                found[place] = (size, count, first)
            n += span - 1
    for place, value in found.items():
        if isinstance(value, tuple):
            size, count, first = value
            whole = b"".join(blobs[place][first + i] for i in range(count))
            assert len(whole) == size, f"{place}: {len(whole)} bytes of {size}"
            found[place] = whole
    return found


def boot(flash, tell, until):
    """Boots the firmware on this flash, tells it lines once it is ready, and waits for a line; all that it said."""
    command = f"""qemu-system-riscv32 -M virt -m 16M -display none -nodefaults -bios none -kernel {IMAGE} -serial stdio
        -global virtio-mmio.force-legacy=false -netdev user,id=net -device virtio-net-device,netdev=net
        -drive if=none,id=nvs,format=raw,file={flash} -device virtio-blk-device,drive=nvs -device virtio-rng-device"""
    qemu = subprocess.Popen(command.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said, ends = b"", time.monotonic() + LIMIT_S
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(qemu.stdout, selectors.EVENT_READ)
            while until not in said:
                assert time.monotonic() < ends, f"waited {LIMIT_S} s for {until}; it said:\n{said.decode(errors='replace')}"
                if ready.select(1):
                    said += os.read(qemu.stdout.fileno(), 4096)
                if tell and b"console: Ready" in said:
                    qemu.stdin.write(tell)
                    qemu.stdin.flush()
                    tell = b""
    finally:
        qemu.kill()
        qemu.wait()
    return said


def main():
    stored = {
        "settings": {"MQTT_HOST": "generated.example", "MQTT_KEEPALIVE": "77"},
        "credentials": {
            "ssid": "lab", "password": "correct-horse", "device_id": "generated_0070", "provisioning_token": "t" * 300,
            "user_token": "u" * 900, "confirmed": False,
        },
    }
    with tempfile.TemporaryDirectory() as home:
        path = lambda name: os.path.join(home, name)
        with open(path("set"), "w") as file:
            json.dump({"format": 1, "stored": stored}, file)
        with open(path("set.csv"), "w") as file:
            file.write(f"key,type,encoding,value\ndevice_config,namespace,,\nset,file,binary,{path('set')}\n")
        generate = [sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate", path("set.csv"), path("nvs.bin"), hex(SIZE)]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
        with open(path("nvs.bin"), "rb") as file:
            assert json.loads(read(file.read())["device_config", "set"])["stored"] == stored, "what this script reads of the generator's"

        said = boot(path("nvs.bin"), b"show\nset MQTT_USER nvs-interop\nsave\n", b"Saved 1 settings").decode()
        for line in ["CHECK_PROVISIONING -> WIFI_CONNECTING", "Setting MQTT_HOST = generated.example", "Setting MQTT_KEEPALIVE = 77"]:
            assert line in said, f"not said: {line}\n{said}"
        with open(path("nvs.bin"), "rb") as file:
            now = json.loads(read(file.read())["device_config", "set"])["stored"]
        assert now["settings"] == stored["settings"] | {"MQTT_USER": "nvs-interop"}, now["settings"]
        assert now["credentials"]["device_id"] == "generated_0070"

        with open(path("blank.bin"), "wb") as file:
            file.write(b"\xff" * SIZE)
        boot(path("blank.bin"), b"set MQTT_USER first\nsave\n", b"Saved 1 settings")
        with open(path("blank.bin"), "rb") as file:
            blank = json.loads(read(file.read())["device_config", "set"])["stored"]
        assert blank["settings"] == {"MQTT_USER": "first"}, blank
    print("nvs: Espressif's image is read and added to by the firmware; what the firmware wrote has ESP-IDF's format, each checksum")


main()

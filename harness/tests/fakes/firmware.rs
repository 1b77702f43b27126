//! Firmware of a few instructions for QEMU's machine virt: it talks over the serial port, and needs nothing else.

/// Registers.
const ZERO: u32 = 0;
const UART: u32 = 5;
const STATUS: u32 = 6;
const BYTE: u32 = 7;
const TIMER: u32 = 28;
/// Where the image lies, and begins.
const AT: u32 = 0x8000_0000;

fn i(opcode: u32, f3: u32, rd: u32, rs1: u32, imm: i32) -> u32 {
    (imm as u32) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode
}

fn addi(rd: u32, rs1: u32, imm: i32) -> u32 {
    i(0x13, 0, rd, rs1, imm)
}

fn andi(rd: u32, rs1: u32, imm: i32) -> u32 {
    i(0x13, 7, rd, rs1, imm)
}

fn srli(rd: u32, rs1: u32, by: i32) -> u32 {
    i(0x13, 5, rd, rs1, by)
}

fn lui(rd: u32, upper: u32) -> u32 {
    upper << 12 | rd << 7 | 0x37
}

fn load_byte(rd: u32, offset: i32, rs1: u32) -> u32 {
    i(0x03, 4, rd, rs1, offset)
}

fn load_word(rd: u32, offset: i32, rs1: u32) -> u32 {
    i(0x03, 2, rd, rs1, offset)
}

fn store_byte(rs2: u32, offset: u32, rs1: u32) -> u32 {
    (offset >> 5) << 25 | rs2 << 20 | rs1 << 15 | (offset & 31) << 7 | 0x23
}

/// Back by so many instructions if the register is zero.
fn back_if_zero(rs1: u32, instructions: u32) -> u32 {
    let offset = (instructions * 4).wrapping_neg();
    (offset >> 12 & 1) << 31
        | (offset >> 5 & 63) << 25
        | ZERO << 20
        | rs1 << 15
        | (offset >> 1 & 15) << 8
        | (offset >> 11 & 1) << 7
        | 0x63
}

/// Back by so many instructions.
fn back(instructions: usize) -> u32 {
    let offset = (u32::try_from(instructions).unwrap() * 4).wrapping_neg();
    (offset >> 20 & 1) << 31 | (offset >> 1 & 0x3ff) << 21 | (offset >> 11 & 1) << 20 | (offset >> 12 & 0xff) << 12 | 0x6f
}

fn hear() -> Vec<u32> {
    vec![load_byte(STATUS, 5, UART), andi(STATUS, STATUS, 1), back_if_zero(STATUS, 2), load_byte(BYTE, 0, UART)]
}

fn say() -> Vec<u32> {
    vec![load_byte(STATUS, 5, UART), andi(STATUS, STATUS, 0x20), back_if_zero(STATUS, 2), store_byte(BYTE, 0, UART)]
}

/// Says `ready` and a line end, and then `forever` again and again.
fn image(forever: &[u32]) -> Vec<u8> {
    // The port's queues are switched on.
    let mut code = vec![lui(UART, 0x10000), addi(STATUS, ZERO, 1), store_byte(STATUS, 2, UART)];
    for byte in b"ready\n" {
        code.push(addi(BYTE, ZERO, i32::from(*byte)));
        code.extend(say());
    }
    code.extend_from_slice(forever);
    code.push(back(forever.len()));
    let code: Vec<u8> = code.into_iter().flat_map(u32::to_le_bytes).collect();
    let size = u32::try_from(code.len()).unwrap();
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0\x01\0\0\0".to_vec();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    // Entry, program headers behind this header, no sections; their sizes and number.
    elf.extend(words(&[AT, 52, 0, 0, 52 | 32 << 16, 1, 0]));
    elf.extend(words(&[1, 84, AT, AT, size, size, 5, 4]));
    elf.extend(code);
    elf
}

/// Firmware that says back whatever it is told.
pub fn echo() -> Vec<u8> {
    image(&[hear(), say()].concat())
}

/// Firmware that answers each byte with its time: four bytes, the lowest first, in ten millionths of a second.
pub fn clock() -> Vec<u8> {
    let mut forever = hear();
    forever.extend([lui(TIMER, 0x200c), load_word(TIMER, -8, TIMER)]);
    for _ in 0..4 {
        forever.push(andi(BYTE, TIMER, 255));
        forever.extend(say());
        forever.push(srli(TIMER, TIMER, 8));
    }
    image(&forever)
}

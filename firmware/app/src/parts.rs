//! What a board brings.

use alloc::boxed::Box;
use alloc::string::String;
use device_core::surroundings::Surroundings;
use embassy_net::Stack;

/// What a board brings.
pub struct Parts<F, R, I, O, W> {
    /// The network. The board runs it in a task of its own.
    pub stack: Stack<'static>,
    /// The NVS partition, from its first byte to its last: sectors of 4 KiB, erased to 0xFF. 128 KiB or more.
    pub flash: F,
    /// Fit for keys.
    pub rng: R,
    /// What the host says on the console. A read that is dropped while pending must have taken nothing.
    pub console_in: I,
    /// What the host hears. A write that is dropped while pending must have taken nothing; one that finds room must not be pending.
    pub console_out: O,
    /// The radio, or simulated surroundings ([`crate::Air`]).
    pub wifi: W,
    /// What is put behind the access point's name, so that boards can be told apart; at most 22 bytes.
    pub ap_suffix: String,
    /// What a simulated board was told before its device begins; `None`: a board whose clock and air are real. A simulated board restarts
    /// inside [`run`], so that its surroundings outlive that, as they would in the world.
    pub simulated: Option<Surroundings>,
    /// How many times as long the board's arithmetic takes as a chip's: 1, but for a processor that is simulated slowly. The limits on a connection
    /// with TLS and on an exchange with the CA are so much longer.
    pub slowness: u32,
    /// Keeps what is around the board for its next start.
    pub keep_surroundings: KeepSurroundings,
    /// Restarts the board.
    pub reboot: fn() -> !,
    /// Goes off as if the power had gone. Only a simulated board's is called.
    pub power_cut: fn() -> !,
    /// How the heap is doing.
    pub heap: fn() -> Heap,
}

/// Keeps a text, or that there is none, where the board looks at its next start; an error says in a few words why it was not kept.
pub type KeepSurroundings = Box<dyn FnMut(Option<&str>) -> Result<(), String>>;

/// How the heap is doing, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Taken now.
    pub used: usize,
    /// The most that was taken at once since the board came up.
    pub high_water: usize,
    /// The largest block that could be taken now.
    pub largest_free: usize,
    /// The most that may be taken at once ([`heap_budget`]); more is said on the console.
    pub budget: usize,
}

/// What a board's heap may hold at the worst moment, in bytes, as `firmware/budgets.toml` says: the `heap` below `[board]`. 0: it does not say.
pub const fn heap_budget(budgets: &str, board: &str) -> usize {
    let (text, board, heap) = (budgets.as_bytes(), board.as_bytes(), b"\nheap = ");
    let mut at = 0;
    let mut ours = false;
    while at < text.len() {
        if text[at] == b'[' {
            ours = follows(text, at + 1, board) && follows(text, at + 1 + board.len(), b"]");
        }
        if ours && follows(text, at, heap) {
            let (mut digit, mut bytes) = (at + heap.len(), 0);
            while digit < text.len() && (text[digit].is_ascii_digit() || text[digit] == b'_') {
                if text[digit] != b'_' {
                    bytes = bytes * 10 + (text[digit] - b'0') as usize;
                }
                digit += 1;
            }
            return bytes;
        }
        at += 1;
    }
    0
}

const fn follows(text: &[u8], at: usize, what: &[u8]) -> bool {
    let mut i = 0;
    while i < what.len() {
        if at + i >= text.len() || text[at + i] != what[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::heap_budget;

    #[test]
    fn a_board_s_budget_is_found() {
        let budgets = "# heap = 1\n[a]\nimage = 2\nheap = 3_000\n\n[b]\nheap = 4\n[c]\n";
        assert_eq!(["a", "b", "c", "d"].map(|board| heap_budget(budgets, board)), [3000, 4, 0, 0]);
        for board in ["esp32c3", "virt"] {
            assert_ne!(heap_budget(include_str!("../../budgets.toml"), board), 0);
        }
    }
}

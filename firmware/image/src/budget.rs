//! What an image takes of a board, and what it may take.

use object::{Object as _, ObjectSection as _, SectionFlags, elf::SHF_ALLOC};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// What an image takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// What is loaded: code, constants, and what variables begin with.
    pub image: u64,
    /// Of memory, for good: variables, code that runs there, and the heap's room.
    pub memory: u64,
    /// What is left for the stack that tasks run on; `None`: the board has a fixed one.
    pub stack: Option<u64>,
}

/// What an image may take, in bytes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// At most.
    image: u64,
    /// At most.
    memory: u64,
    /// At least.
    stack: Option<u64>,
    /// What of the heap may be in use at the worst moment: the device itself looks.
    pub heap: u64,
}

/// The board's budget.
///
/// # Errors
/// What is wrong with the text, or that it has none for the board.
pub fn read(text: &str, board: &str) -> Result<Budget, String> {
    let budgets: BTreeMap<String, Budget> = toml::from_str(text).map_err(|e| e.to_string())?;
    budgets.get(board).copied().ok_or_else(|| format!("no budget for {board}: write [{board}] with image, memory and heap"))
}

impl Weight {
    /// What this image takes.
    ///
    /// # Errors
    /// It is no ELF file.
    pub fn of(elf: &[u8]) -> Result<Weight, String> {
        let elf = object::File::parse(elf).map_err(|e| e.to_string())?;
        let mut weight = Weight::default();
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            let name = section.name().unwrap_or_default();
            // Gaps that keep two views of the same memory apart are nobody's.
            if sh_flags.0 & SHF_ALLOC.0 == 0 || name.contains("dummy") {
                continue;
            }
            let (size, address) = (section.size(), section.address());
            if name == ".stack" {
                weight.stack = Some(size);
                continue;
            }
            let loaded = section.file_range().is_some();
            weight.image += if loaded { size } else { 0 };
            let in_flash = (0x3C00_0000..0x3D00_0000).contains(&address) || (0x4200_0000..0x4300_0000).contains(&address);
            weight.memory += if in_flash { 0 } else { size };
        }
        Ok(weight)
    }
}

impl Budget {
    /// Whether the image keeps to it.
    ///
    /// # Errors
    /// What it takes too much of, and by how much.
    pub fn check(&self, weight: &Weight) -> Result<(), String> {
        let mut over = Vec::new();
        for (what, takes, may) in [("image", weight.image, self.image), ("memory", weight.memory, self.memory)] {
            if takes > may {
                over.push(format!("{what} {takes} of {may} bytes, {} too many", takes - may));
            }
        }
        if let (Some(left), Some(least)) = (weight.stack, self.stack)
            && left < least
        {
            over.push(format!("stack {left} of {least} bytes, {} too few", least - left));
        }
        if over.is_empty() { Ok(()) } else { Err(over.join("; ")) }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {} bytes, memory {} bytes", self.image, self.memory)?;
        self.stack.map_or(Ok(()), |stack| write!(f, ", stack {stack} bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[small]\nimage = 100\nmemory = 50\nstack = 8\nheap = 20\n";

    #[test]
    fn what_is_over_is_named() {
        let budget = read(TEXT, "small").unwrap();
        let fits = Weight { image: 100, memory: 50, stack: Some(8) };
        assert_eq!(budget.check(&fits), Ok(()));
        assert_eq!(budget.check(&Weight { stack: None, ..fits }), Ok(()));
        for (weight, why) in [
            (Weight { image: 101, ..fits }, "image 101 of 100 bytes, 1 too many"),
            (Weight { memory: 53, ..fits }, "memory 53 of 50 bytes, 3 too many"),
            (Weight { stack: Some(7), ..fits }, "stack 7 of 8 bytes, 1 too few"),
        ] {
            assert_eq!(budget.check(&weight), Err(why.into()));
        }
    }

    #[test]
    fn a_budget_that_is_not_there_is_asked_for() {
        assert!(read(TEXT, "large").unwrap_err().contains("write [large]"));
        assert!(read("[small]\nimage = 1\nmemory = 1\nheap = 1\nflash = 1\n", "small").unwrap_err().contains("flash"));
    }

    #[test]
    fn what_is_no_image_is_said() {
        assert!(Weight::of(b"#!/bin/sh\n").is_err());
    }
}

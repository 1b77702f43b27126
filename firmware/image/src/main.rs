//! Weighs a board's image against its budget, and makes what is flashed.
//!
//! ```text
//! image weigh BOARD ELF BUDGETS                 says what the image takes; fails when that is over the budget
//! image make  BOARD ELF BUDGETS FOLDER FLASH    the same; then FOLDER holds what is flashed where, FLASH all of it from offset 0
//! ```

mod budget;
mod flash;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "image weigh BOARD ELF BUDGETS, or image make BOARD ELF BUDGETS FOLDER FLASH";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["weigh", board, elf, budgets] => weigh(board, elf, budgets),
        ["make", board, elf, budgets, folder, flash] => {
            flash::make(Path::new(elf), Path::new(folder), Path::new(flash)).and_then(|()| weigh(board, elf, budgets))
        }
        _ => Err(format!("usage: {USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("image: {why}");
            ExitCode::FAILURE
        }
    }
}

fn weigh(board: &str, elf: &str, budgets: &str) -> Result<(), String> {
    let budget = budget::read(&read_text(budgets)?, board).map_err(|why| format!("{budgets}: {why}"))?;
    let weight = budget::Weight::of(&read(elf)?).map_err(|why| format!("{elf}: {why}"))?;
    println!("firmware: {board}: {weight}");
    budget.check(&weight).map_err(|why| format!("{board} is over its budget in {budgets}: {why}"))
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{path}: {e}"))
}

fn read_text(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}

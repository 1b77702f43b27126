//! Names the linker script for this board alone.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tlinkall.x");
}

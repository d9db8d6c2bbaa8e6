//! What the engine executes for its commonest work, counted in instructions.
//!
//! Time says little on a machine that does other things too; the number of instructions is the same each time, to a fraction
//! of a percent. `cargo xtask bench instructions` runs each scene under valgrind's callgrind, which counts only what happens
//! inside [`measured`], and compares with `baseline.tsv` in this directory. Run by itself, this program shows that the scenes work.
//!
//! Each scene is an engine with its peers played from outside, as in the tests: bytes in, bytes out, and virtual time. What it
//! takes to make the bytes is not counted.

mod network;
mod scenes;

use std::hint::black_box;
use std::process::ExitCode;

/// What callgrind counts; it is found by this name.
#[inline(never)]
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> T {
    let result = black_box(work)();
    black_box(result)
}

/// Without an argument the scenes' names, one a line; with one, that scene.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this program is its output")]
fn main() -> ExitCode {
    // cargo says --bench to every program that it runs as one.
    let wanted = std::env::args().skip(1).find(|argument| argument != "--bench");
    let Some(wanted) = wanted else {
        scenes::ALL.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, scene)) = scenes::ALL.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no scene {wanted}");
        return ExitCode::FAILURE;
    };
    scene();
    ExitCode::SUCCESS
}

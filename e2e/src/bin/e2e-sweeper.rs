//! Waits for the end of the test that started it, and removes what that test left.
//!
//! The test holds the other end of our standard input: it closes when the test ends, however it ends, SIGKILL included.

use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(scene) = std::env::args().nth(1) else { return ExitCode::FAILURE };
    // Nothing is ever written there: reading ends with the test, by end of file or by error.
    let mut nothing = Vec::new();
    let _ = std::io::stdin().lock().read_to_end(&mut nothing);
    roadstead_e2e::remove_scene(&scene);
    ExitCode::SUCCESS
}

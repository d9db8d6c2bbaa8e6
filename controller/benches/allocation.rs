//! How fast addresses are found: a /12 is filled to the last address, given back in another order, and filled again.
//!
//! `cargo bench -p roadstead-controller` prints allocations per second, for each quarter of the fill: the last must not be slower
//! than the first by more than a little.

#![allow(clippy::print_stdout, reason = "it is what a bench does")]

use std::hint::black_box;
use std::time::Instant;

use roadstead_controller::plan::{Allocator, Avoid, Number};

const FIRST: Number = 0x0a00_0000;
const SIZE: Number = 1 << 20;

fn main() {
    for avoid in [Avoid::Nothing, Avoid::BuggyIpv4] {
        let mut allocator = Allocator::new([FIRST..=FIRST + SIZE - 1], [], avoid);
        fill(&mut allocator, &format!("{avoid:?}, empty pool"));
        // Every seventh first, then the others: as much in pieces as a pool gets.
        for step in 0..7 {
            for address in (FIRST + step..FIRST + SIZE).step_by(7) {
                allocator.release(address);
            }
        }
        fill(&mut allocator, &format!("{avoid:?}, after release"));
    }
}

fn fill(allocator: &mut Allocator, name: &str) {
    let quarter = allocator.available() / 4;
    let mut rates = Vec::new();
    for _ in 0..4 {
        let start = Instant::now();
        for _ in 0..quarter {
            let Some(address) = allocator.next_free() else { break };
            black_box(allocator.take(address));
        }
        rates.push(format!("{:.1}", quarter as f64 / start.elapsed().as_secs_f64() / 1e6));
    }
    println!("{name}: {} million allocations per second, by quarter", rates.join(", "));
}

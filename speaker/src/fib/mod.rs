//! Learned routes in the kernel: a table of our own, the rules that lead there, and the packets that keep their source address.
//!
//! ```text
//!  set, settle --> [ Plan: pure ] --changes--> [ Routes: one send for many ] --> table 179
//!                      ^    ^                                                        |
//!        next hops ----'    '---- everybody's links, addresses, routes, rules <------'
//! ```
//!
//! One thread owns all of it; the handle only leaves notes in its inbox, collected by prefix, so nobody ever waits for the kernel.

mod handle;
mod status;
mod worker;

pub use handle::{Ending, Fib, FibError, FibOptions, start};
pub use status::{Connected, FibStatus, Missing};

//! The core from outside: no socket, no clock, only inputs and outputs.
//!
//! `script` plays one peer byte by byte; `sessions`, `routes` and their neighbours are stories told with it, `relay` one with
//! several peers, each of them a `stage`; whole networks are in `tests/simulation`. `recording` replays what was recorded.
//!
//! What nobody should send: `errors` and `incidents` send the `cases` of a table, for which RFCs say what becomes of each;
//! `hostile` and `fuzz` send anything. `bugs` says which test shows that a known bug of others is not here.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what it did not expect, in its helpers too")]

mod bfd;
mod bugs;
mod cases;
mod deferral;
mod dynamic;
mod errors;
mod extended;
mod fuzz;
mod hostile;
mod incidents;
mod limits;
mod next_hops;
mod pages;
mod properties;
mod recording;
mod refresh;
mod relay;
mod restart;
mod roles;
mod routes;
mod script;
mod sessions;
mod stage;
mod unnumbered;

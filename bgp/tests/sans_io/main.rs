//! The core from outside: no socket, no clock, only inputs and outputs.
//!
//! `script` plays one peer byte by byte; `sessions`, `routes` and their neighbours are stories told with it. `network` joins several speakers
//! over links with delay, small buffers, cuts and silence, on virtual time and from a seed; `convergence` says what must be
//! true in the end whatever happened there. `hostile` sends what nobody should.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what it did not expect, in its helpers too")]

mod convergence;
mod extended;
mod hostile;
mod network;
mod refresh;
mod restart;
mod roles;
mod routes;
mod script;
mod sessions;

//! The interop matrix: our speaker with one session for each feature to each of five daemons, and the table of what was
//! seen.
//!
//! One scene has one machine for each daemon and one for us, all on one switch. A [`Link`] is one way to run a session: a
//! subnet of its own, in which every daemon has an address. So one process of ours and one of each daemon run dozens of
//! sessions side by side, and a whole table takes hardly longer than its slowest session.
//!
//! A cell of the [`Table`] is what was seen. What must not be seen is an error, which no table can turn into a result; what
//! a daemon does in its own way is a cell, and `docs/interop.md` holds what is expected to be in it.

mod stage;
mod table;

pub use stage::{
    CHANGE, Dialler, Link, NODE, NODE_NAME, ROUTES_V4, ROUTES_V6, Stage, Transport, V4_PREFIXES, V6_PREFIXES, services,
};
pub use table::{DAEMONS, Daemon, Table};

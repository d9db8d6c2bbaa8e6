//! The interop matrix: what we and five daemons do with each other.
//!
//! The rows are compared with `docs/interop.md`, and written there by `cargo xtask interop`. Each module fills a section:
//! every way to set up a session and what is told over it, links without addresses, what our route server passes on, what breaks and how
//! it comes back, and restarts under traffic.

mod breaks;
mod relaying;
mod restarts;
mod sessions;
mod unnumbered;

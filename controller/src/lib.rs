//! The controller: assigns addresses to Services and says how our objects fare.

mod run;

pub use run::{Options, RunError, run};

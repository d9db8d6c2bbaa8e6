//! Looking at a speaker over its socket: `status`, `routes` and `explain`.

mod explain;
mod routes;
mod status;
mod table;

use std::path::PathBuf;

pub(crate) use explain::{ExplainFlags, explain};
use roadstead_speaker::local::DEFAULT_SOCKET;
pub(crate) use routes::{RoutesFlags, routes};
pub(crate) use status::{StatusFlags, status};
pub(crate) use table::{Table, or_dash};

/// Where to look, and how to print what is seen.
#[derive(clap::Args)]
pub(crate) struct Looking {
    /// The speaker's Unix socket; `roadstead run` has it in its state directory
    #[arg(long, value_name = "PATH", env = "ROADSTEAD_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,

    /// How to print it
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// A form of output.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// As the socket tells it.
    Json,
}

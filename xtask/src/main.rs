//! Development tasks, as `cargo xtask <task>` (the alias is in `.cargo/config.toml`).
//!
//! `test` is what CI runs and what a contributor runs before sending a change: one command that checks the rules of the
//! code base, installs from Debian what the machine lacks, builds the pinned Go tools and runs every test there is.
//! A missing prerequisite fails the run; nothing is skipped silently.
//!
//! - [`step`] runs one command under a name: progress while it is slow, its output when it fails.
//! - [`structure`] checks the rules that no compiler checks.
//! - [`prerequisites`] and [`tools`] bring in what the end-to-end tests drive.
//! - [`mod@test`], [`mod@bench`] (with [`instructions`]), [`image`] and [`crds`] are the tasks.

mod bench;
mod crds;
mod image;
mod instructions;
mod prerequisites;
mod step;
mod structure;
mod test;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Development tasks: test, bench, generated files",
    after_help = "Most used:\n  cargo xtask test --fast       before every commit: no root, no installs\n  \
                  cargo xtask test              everything, as CI does\n  \
                  cargo xtask test routers      the scenarios of e2e/tests/routers.rs"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks the rules of the code base, then runs the tests from least to most powerful.
    ///
    /// Without --fast the end-to-end tests run too: they need root, Debian's routers and Go. What is lacking is
    /// installed when this runs as root on Debian, and named otherwise.
    Test {
        /// Only what needs no root, no installs and no network: rules, lints, unit tests, tests of the binaries.
        #[arg(long)]
        fast: bool,
        /// Run only these tests: a file of e2e/tests without its ending, or part of a test's name.
        filter: Option<String>,
    },
    /// Measures the product against its budgets, on a release build.
    ///
    /// Without a name, every measurement.
    Bench {
        #[command(subcommand)]
        name: Option<bench::Bench>,
    },
    /// Builds static binaries and writes them as an OCI image, target/image/roadstead.tar.
    ///
    /// The same sources and the same compiler give the same bytes. No container engine is needed; `ctr images import`,
    /// `docker load` (from version 25) and `skopeo copy oci-archive:...` take it.
    Image {
        /// The name that the image has when it is imported.
        #[arg(long, default_value = "localhost/roadstead:0.1.0")]
        name: String,
        /// Without optimisation, in a fraction of the time: for tests.
        #[arg(long)]
        dev: bool,
        /// Where it is written [default: target/image/roadstead.tar].
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Writes the chart's CRDs from the types they are generated from.
    Crds,
    /// Runs the interop matrix, and writes into docs/interop.md what is seen.
    Interop,
    /// Brings in what the end-to-end tests drive (Debian packages, Go tools), and runs nothing.
    Prepare,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.task {
        Task::Test { fast: true, filter } => test::fast(filter.as_deref()),
        Task::Test { fast: false, filter } => test::all(filter.as_deref()),
        Task::Bench { name } => bench::run(name.as_ref()),
        Task::Image { name, dev, to } => image::write(&name, dev, to),
        Task::Crds => crds::write(),
        Task::Interop => test::interop(),
        Task::Prepare => prerequisites::ensure().and_then(|()| tools::ensure()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::say(&format!("FAILED  {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace: every path in this program starts from it, whatever directory the user stands in.
fn workspace() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Where cargo puts what it builds for this workspace.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

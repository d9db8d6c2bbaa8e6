//! `cargo xtask bench`: figures beside the budget they are held to, on a release build.

use anyhow::Result;
use clap::ValueEnum;

use crate::step::{self, cargo};
use crate::{prerequisites, tools};

/// The measurements there are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// From the creation of a Service to the UPDATE at a router, on a real API server.
    FirstRoute,
}

/// Runs `name`, or every measurement.
pub(crate) fn run(name: Option<Bench>) -> Result<()> {
    prerequisites::ensure()?;
    tools::ensure()?;
    // Not the workspace: that would build the tests' tools in release as well.
    let build = [
        "build",
        "--release",
        "--package",
        "roadstead",
        "--package",
        "roadstead-controller",
        "--package",
        "roadstead-speaker",
        "--package",
        "roadstead-e2e",
        "--bins",
    ];
    step::run("release build", step::nothing, &mut cargo(&build))?;
    let all: &[Bench] = match &name {
        Some(one) => std::slice::from_ref(one),
        None => Bench::value_variants(),
    };
    for bench in all {
        match bench {
            Bench::FirstRoute => {
                let mut command = std::process::Command::new(crate::target().join("release/first-route"));
                command.env("ROADSTEAD_TOOLS", tools::directory());
                step::run("first-route", step::everything, &mut command)?;
            }
        }
    }
    Ok(())
}

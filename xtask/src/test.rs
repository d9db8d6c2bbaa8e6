//! `cargo xtask test`: from the cheapest check to whole clusters, and the first failure ends it.

use anyhow::Result;

use crate::step::{self, cargo};
use crate::{crds, prerequisites, structure, tools};

/// End-to-end tests that need only the binaries and loopback.
const ROOTLESS: &[&str] = &["lab", "bad_input"];

/// Rules, lints, unit tests and tests of the binaries: no root, no installs, no network.
pub(crate) fn fast(filter: Option<&str>) -> Result<()> {
    rules()?;
    unit_tests(filter)?;
    step::run("build binaries", step::nothing, &mut cargo(&["build", "--workspace", "--bins"]))?;
    crds::check()?;
    let mut arguments = vec!["test", "--package", "roadstead-e2e"];
    for name in ROOTLESS {
        arguments.extend(["--test", name]);
    }
    arguments.extend(filter);
    step::run("tests of the binaries", step::each_test, &mut cargo(&arguments))?;
    step::say("passed  everything that needs no root; the rest: cargo xtask test");
    Ok(())
}

/// All tests there are.
pub(crate) fn all(filter: Option<&str>) -> Result<()> {
    // First, because it costs nothing to know at once that the run cannot succeed.
    prerequisites::possible()?;
    rules()?;
    unit_tests(filter)?;
    step::run("build binaries", step::nothing, &mut cargo(&["build", "--workspace", "--bins"]))?;
    crds::check()?;
    prerequisites::ensure()?;
    tools::ensure()?;
    end_to_end(filter)?;
    step::say("passed  everything");
    Ok(())
}

fn rules() -> Result<()> {
    step::check("structure", structure::check)?;
    step::run("format", step::nothing, &mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    step::run("lints", step::nothing, &mut cargo(&clippy))?;
    let documentation = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    step::run("documentation", step::nothing, cargo(&documentation).env("RUSTDOCFLAGS", "-D warnings"))
}

fn unit_tests(filter: Option<&str>) -> Result<()> {
    let mut arguments = vec!["test", "--workspace", "--exclude", "roadstead-e2e"];
    arguments.extend(filter);
    step::run("unit and process tests", step::test_results, &mut cargo(&arguments))?;
    // The harness has tests of its own; its scenarios come last.
    let mut arguments = vec!["test", "--package", "roadstead-e2e", "--lib"];
    arguments.extend(filter);
    step::run("tests of the harness", step::test_results, &mut cargo(&arguments))
}

fn end_to_end(filter: Option<&str>) -> Result<()> {
    let mut arguments = vec!["test", "--package", "roadstead-e2e", "--test", "*"];
    arguments.extend(filter);
    // One at a time: two clusters at once would share two cores and fail by timeouts that no user ever sees.
    arguments.extend(["--", "--test-threads=1", "--nocapture"]);
    let mut command = cargo(&arguments);
    command.env("ROADSTEAD_TOOLS", tools::directory());
    step::run("end-to-end tests", step::each_test, &mut command)
}

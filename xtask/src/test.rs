//! `cargo xtask test`: from the cheapest check to whole clusters, and the first failure ends it.

use anyhow::Result;

use crate::step::{self, cargo};
use crate::{crds, prerequisites, structure, tools};

/// End-to-end tests that need only the binaries and loopback.
const ROOTLESS: &[&str] = &["lab", "bad_input"];

/// Rules, lints, unit tests and tests of the binaries: no root, no installs, no network.
pub(crate) fn fast(filter: Option<&str>) -> Result<()> {
    unit_tests(filter, "some")?;
    build()?;
    end_to_end("tests of the binaries", ROOTLESS, filter)?;
    step::say("passed  everything that needs no root; the rest: cargo xtask test");
    Ok(())
}

/// All tests there are.
pub(crate) fn all(filter: Option<&str>) -> Result<()> {
    // First, because it costs nothing to know at once that the run cannot succeed.
    prerequisites::possible()?;
    unit_tests(filter, "all")?;
    build()?;
    prerequisites::ensure()?;
    tools::ensure()?;
    kernel_routes(filter)?;
    end_to_end("end-to-end tests", &["*"], filter)?;
    step::say("passed  everything");
    Ok(())
}

/// The interop matrix, which writes its tables instead of comparing them.
pub(crate) fn interop() -> Result<()> {
    build()?;
    prerequisites::ensure()?;
    let mut command =
        cargo(&["test", "--package", "roadstead-e2e", "--test", "interop", "--", "--test-threads=1", "--nocapture"]);
    step::run("interop matrix", step::each_test, command.env("ROADSTEAD_INTEROP_WRITE", "1"))
}

/// The rules of the code base, for a run without a filter: who asks for one test wants that one.
fn rules() -> Result<()> {
    step::check("structure", structure::check)?;
    step::run("format", step::nothing, &mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    step::run("lints", step::nothing, &mut cargo(&clippy))?;
    let documentation = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    step::run("documentation", step::nothing, cargo(&documentation).env("RUSTDOCFLAGS", "-D warnings"))
}

/// `stories`: how many of the simulated networks of `bgp/tests/simulation`.
fn unit_tests(filter: Option<&str>, stories: &str) -> Result<()> {
    if filter.is_some_and(is_scenario_file) {
        return Ok(());
    }
    if filter.is_none() {
        rules()?;
    }
    let mut arguments = vec!["test", "--workspace", "--exclude", "roadstead-e2e"];
    arguments.extend(filter);
    step::run("unit and process tests", step::test_results, cargo(&arguments).env("ROADSTEAD_STORIES", stories))?;
    // The harness has tests of its own; its scenarios come last.
    let mut arguments = vec!["test", "--package", "roadstead-e2e", "--lib", "--bins"];
    arguments.extend(filter);
    step::run("tests of the harness", step::test_results, &mut cargo(&arguments))
}

/// Learned routes in a kernel, each test in namespaces of its own.
fn kernel_routes(filter: Option<&str>) -> Result<()> {
    if filter.is_some_and(is_scenario_file) {
        return Ok(());
    }
    let mut arguments = vec!["test", "--workspace", "--exclude", "roadstead-e2e", "--test", "fib"];
    arguments.extend(filter);
    step::run("kernel routes", step::test_results, &mut cargo(&arguments))
}

/// The binaries that the scenarios run, and the files that they generate.
fn build() -> Result<()> {
    step::run("build binaries", step::nothing, &mut cargo(&["build", "--workspace", "--bins"]))?;
    crds::check()
}

/// Scenarios of `files` in `e2e/tests`; a filter is the name of one of them, or part of a test's name.
fn end_to_end(name: &str, files: &[&str], filter: Option<&str>) -> Result<()> {
    let (files, filter) = match filter {
        Some(file) if is_scenario_file(file) => (vec![file], None),
        filter => (files.to_vec(), filter),
    };
    let mut arguments = vec!["test", "--package", "roadstead-e2e"];
    for file in files {
        arguments.extend(["--test", file]);
    }
    arguments.extend(filter);
    // One at a time: two clusters at once would share two cores and fail by timeouts that no user ever sees.
    // What they say while they run is the progress of this step.
    arguments.extend(["--", "--test-threads=1", "--nocapture"]);
    let mut command = cargo(&arguments);
    command.env("ROADSTEAD_TOOLS", tools::directory());
    step::run(name, step::each_test, &mut command)
}

fn is_scenario_file(filter: &str) -> bool {
    let tests = crate::workspace().join("e2e/tests");
    tests.join(format!("{filter}.rs")).exists() || tests.join(filter).join("main.rs").exists()
}

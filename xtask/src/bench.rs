//! `cargo xtask bench`: figures beside the budget they are held to, on a release build.

use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::instructions::{self, InstructionsFlags};
use crate::step::{self, cargo};
use crate::{image, prerequisites, tools};

/// The measurements there are.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// From the creation of a Service to the UPDATE at a router, on a real API server.
    FirstRoute,
    /// Pods' addresses: ADD from blocks, shared and almost full pools, a thousand pods on ten nodes, the first blocks of a thousand
    /// simulated nodes, and memory, on a real API server.
    Pods,
    /// Joined clusters: what it takes to find overlap, and to have learned routes in the kernel.
    Clusters,
    Engine(EngineFlags),
    Instructions(InstructionsFlags),
}

/// The BGP engine as a route server, with BIRD and FRR under the same loads beside it.
///
/// For announcing and for withdrawing: the time from the first byte that a feeder sends to the last prefix at the monitors,
/// the same without the floor (a program that copies the bytes and looks at nothing), its ratio to BIRD's and whether that
/// is within the budget (e2e/src/bin/engine/budget.rs), and the peak memory of the process, held to the same. The devices run in turn, so that whatever else the machine does hits all of them; only ratios
/// of one run mean anything.
///
/// Loads:
///   one-feeder     1 feeder x 100,000 /24 with 10 per attribute set -> 1 monitor
///   ten-feeders    10 feeders x 20,000 /24, all distinct -> 2 monitors
///   same-prefixes  10 feeders x the same 20,000 /24 -> 2 monitors
///   full-table     1,000,000 prefixes as in the public table -> 1 monitor; then one prefix at a time through it
///   mesh           200 peers x 50 /24 each way; then what the device takes when idle
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Most used:\n  cargo xtask bench engine --quick                    does it work? a tenth of each load, one run\n  \
                  cargo xtask bench engine --load one-feeder          one load, five runs\n  \
                  cargo xtask bench engine --device roadstead --runs 1 --load full-table\n                                                      us alone, while something is being tried"
)]
pub(crate) struct EngineFlags {
    /// A tenth of each load, one run: shows that it works, and no figure that means much.
    #[arg(long)]
    quick: bool,
    /// How often each device runs; the median counts [default: 5, with --quick 1].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    runs: Option<u16>,
    /// Only this load; repeat for several.
    #[arg(long, value_parser = ["one-feeder", "ten-feeders", "same-prefixes", "full-table", "mesh"])]
    load: Vec<String>,
    /// Only this device, and the floor; repeat for several.
    #[arg(long, value_parser = ["bird", "frr", "roadstead"])]
    device: Vec<String>,
}

/// Runs one measurement, or every one.
pub(crate) fn run(name: Option<&Bench>) -> Result<()> {
    // These need neither routers nor the product's binaries.
    match name {
        Some(Bench::Instructions(flags)) => return instructions::run(flags),
        Some(Bench::Clusters) => return clusters(),
        _ => {}
    }
    prerequisites::ensure()?;
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
        "roadstead-cni",
        "--package",
        "roadstead-e2e",
        "--bins",
    ];
    step::run("release build", step::nothing, &mut cargo(&build))?;
    match name {
        Some(Bench::FirstRoute) => first_route(),
        Some(Bench::Pods) => pods(),
        Some(Bench::Engine(flags)) => engine(flags),
        Some(Bench::Clusters) => clusters(),
        Some(Bench::Instructions(flags)) => instructions::run(flags),
        None => {
            instructions::run(&InstructionsFlags::default())?;
            clusters()?;
            first_route()?;
            pods()?;
            engine(&EngineFlags { quick: false, runs: None, load: Vec::new(), device: Vec::new() })
        }
    }
}

fn first_route() -> Result<()> {
    tools::ensure()?;
    let mut command = program("first-route");
    command.env("ROADSTEAD_TOOLS", tools::directory());
    step::run("first-route", step::everything, &mut command)
}

fn pods() -> Result<()> {
    tools::ensure()?;
    let example = ["build", "--release", "--package", "roadstead-speaker", "--example", "first-blocks"];
    step::run("build of the simulated nodes", step::nothing, &mut cargo(&example))?;
    // Statically linked, as users have it: half of its start is the loader's otherwise.
    let plugin = image::plugin()?;
    let mut command = program("pods");
    command.env("ROADSTEAD_TOOLS", tools::directory()).env("ROADSTEAD_PLUGIN", plugin);
    command.env("ROADSTEAD_NODES", program("examples/first-blocks").get_program());
    step::run("pods", step::everything, &mut command)
}

fn clusters() -> Result<()> {
    let overlap = ["bench", "--package", "roadstead-api", "--bench", "overlap"];
    step::run("clusters: overlap", step::everything, &mut cargo(&overlap))?;
    let routes = ["bench", "--package", "roadstead-speaker", "--bench", "fib"];
    step::run("clusters: kernel routes", step::everything, &mut cargo(&routes))
}

fn engine(flags: &EngineFlags) -> Result<()> {
    let mut command = program("engine");
    let runs = flags.runs.unwrap_or(if flags.quick { 1 } else { 5 });
    command.args(["--runs", &runs.to_string()]).args(flags.quick.then_some("--quick"));
    command.args(flags.load.iter().flat_map(|load| ["--load", load]));
    command.args(flags.device.iter().flat_map(|device| ["--device", device]));
    step::run("engine", step::everything, &mut command)
}

fn program(name: &str) -> Command {
    Command::new(crate::target().join("release").join(name))
}

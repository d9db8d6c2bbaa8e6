//! `roadstead`: the lab, a single machine without Kubernetes, a route server, a look at a running speaker, recordings, clusters side
//! by side, and the CRDs.

mod clusters;
mod crds;
mod lab;
mod look;
mod replay;
mod route_server;
mod run;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Addresses for Kubernetes clusters outside the big clouds, and the BGP routes that lead to them.
///
/// `roadstead lab` shows the whole at work on this machine, without a cluster and without root.
#[derive(Parser)]
#[command(name = "roadstead", version, propagate_version = true)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Lab(lab::Flags),
    Run(run::Flags),
    RouteServer(route_server::Flags),
    Status(look::StatusFlags),
    Routes(look::RoutesFlags),
    Explain(look::ExplainFlags),
    Replay(replay::Flags),
    Export(clusters::ExportFlags),
    Check(clusters::CheckFlags),
    EdgeConfig(clusters::EdgeConfigFlags),
    Crds(crds::Flags),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Flags { command } = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Nowhere left to say that there is nobody to read it.
            let _ = error.print();
            // Not clap's 2, which is what `check` says of clusters that collide.
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    // The lab draws a table and `crds` prints YAML: only what runs for long has a log that anybody waits for.
    let level = if matches!(command, Command::Run(_) | Command::RouteServer(_)) { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(std::io::stderr).init();
    let result = match command {
        Command::Lab(flags) => lab::lab(flags).await,
        Command::Run(flags) => run::run(flags).await,
        Command::RouteServer(flags) => route_server::route_server(flags).await,
        Command::Status(flags) => look::status(&flags),
        Command::Routes(flags) => look::routes(&flags),
        Command::Explain(flags) => look::explain(&flags),
        Command::Replay(flags) => replay::replay(&flags),
        Command::Export(flags) => clusters::export(flags).await,
        Command::Check(flags) => clusters::check(flags).await,
        Command::EdgeConfig(flags) => clusters::edge_config(flags).await,
        Command::Crds(flags) => crds::crds(flags),
    };
    result.unwrap_or_else(|error| {
        tracing::error!("{}", in_one_line(&error));
        ExitCode::FAILURE
    })
}

/// An error with its causes. Those of our own libraries are said by the error already, as everybody prints one line.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

//! `roadstead explain`: why a prefix is reached as it is, or not at all.

use std::process::ExitCode;

use roadstead_speaker::local::{self, ExplainView};

use super::{Form, Looking};

/// Say why a prefix is reached the way it is, or why it is not.
///
/// Every accepted path, the best first, with the rule by which the best won; and what was refused of it lately, with the reason. Of
/// each peer the last hundred refusals are kept.
#[derive(clap::Args)]
pub(crate) struct ExplainFlags {
    /// The prefix, exactly
    #[arg(value_name = "PREFIX")]
    prefix: String,

    #[command(flatten)]
    looking: Looking,
}

/// Asks and prints. Fails when no path leads there.
#[allow(clippy::print_stdout, reason = "the answer of a command is its output")]
pub(crate) fn explain(flags: &ExplainFlags) -> anyhow::Result<ExitCode> {
    let path = local::path_with("/v1/explain", &[("prefix", Some(&flags.prefix))]);
    let answer: ExplainView = local::get(&flags.looking.socket, &path)?;
    match flags.looking.output {
        Form::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Form::Table => print!("{}", in_words(&answer)),
    }
    Ok(if answer.paths.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn in_words(answer: &ExplainView) -> String {
    let mut text = String::new();
    for path in &answer.paths {
        let route = &path.route;
        let stale = if route.stale { ", stale" } else { "" };
        text += &format!(
            "{} by {} from {}, path {}{stale}: {}\n",
            answer.prefix, route.next_hop, route.peer, route.as_path, path.verdict
        );
    }
    for refusal in &answer.refused {
        let path = if refusal.as_path.is_empty() { String::new() } else { format!(", path {}", refusal.as_path) };
        text +=
            &format!("{} refused from {} at {}{path}: {}\n", answer.prefix, refusal.peer, refusal.at, refusal.reason);
        if let Some(malformed) = &refusal.malformed {
            text += &format!("  {}; octets {}\n", malformed.detail, malformed.octets);
        }
    }
    if answer.paths.is_empty() && answer.refused.is_empty() {
        text += &format!("No peer has told {}", answer.prefix);
        if answer.peers_with_more.is_empty() {
            text += ".\n";
        } else {
            let peers = answer.peers_with_more.join(", ");
            text += &format!(", or it was refused before the last hundred refusals of {peers}.\n");
        }
    }
    text
}

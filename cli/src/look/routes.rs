//! `roadstead routes`: what was accepted, or what a peer was told.

use std::process::ExitCode;

use anyhow::ensure;
use ipnet::IpNet;
use roadstead_speaker::local::{self, RouteView, RoutesView};

use super::table::{Table, or_dash};
use super::{Form, Looking};

/// Show the routes that the speaker on this machine has accepted, or that it has told a peer.
///
/// The engine is asked for a page at a time, so it goes on with its work however large the table is. A star stands at the best path
/// to a prefix; in what was told, `outdated` at what the peer has and is about to be told anew.
#[derive(clap::Args)]
pub(crate) struct RoutesFlags {
    /// This prefix and what lies in it; of an address, the prefixes that it lies in
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,

    /// Routes from this peer only; with --out, to it
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,

    /// What was told, instead of what was accepted
    #[arg(long, requires = "peer")]
    out: bool,

    /// What was accepted; the default
    #[arg(long = "in", conflicts_with = "out")]
    accepted: bool,

    /// Stop after so many; 0 for all there are
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    limit: usize,

    #[command(flatten)]
    looking: Looking,
}

/// Asks and prints.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "the answer of a command is its output")]
pub(crate) fn routes(flags: &RoutesFlags) -> anyhow::Result<ExitCode> {
    ensure!(!(flags.out && flags.accepted), "either --in or --out");
    let limit = if flags.limit == 0 { usize::MAX } else { flags.limit };
    let mut routes: Vec<RouteView> = Vec::new();
    let mut after: Option<String> = None;
    let rest = loop {
        let query = [
            ("direction", Some(if flags.out { "out" } else { "in" })),
            ("peer", flags.peer.as_deref()),
            ("prefix", flags.prefix.as_deref()),
            ("after", after.as_deref()),
        ];
        let page: RoutesView = local::get(&flags.looking.socket, &local::path_with("/v1/routes", &query))?;
        routes.extend(page.routes);
        after = page.next;
        if after.is_none() || routes.len() >= limit {
            break after.is_some() || routes.len() > limit;
        }
    };
    routes.truncate(limit);
    routes.sort_by_cached_key(|route| (route.prefix.parse::<IpNet>().ok(), route.standing.clone(), route.peer.clone()));
    match flags.looking.output {
        Form::Json => println!("{}", serde_json::to_string_pretty(&routes)?),
        Form::Table => print!("{}", table(&routes)),
    }
    if rest {
        eprintln!("There are more than {limit}: --limit 0 shows all.");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn table(routes: &[RouteView]) -> String {
    let mut table =
        Table::new(&["", "PREFIX", "NEXT HOP", "PEER", "AS PATH", "ORIGIN", "MED", "LOCAL-PREF", "COMMUNITIES"]);
    for route in routes {
        let mark = match (route.standing.as_str(), route.stale) {
            (_, true) => "stale",
            ("Best", _) => "*",
            ("Outdated", _) => "outdated",
            ("Unreachable", _) => "unreachable",
            _ => "",
        };
        let number = |number: Option<u32>| or_dash(number.map(|number| number.to_string()).unwrap_or_default());
        let communities = [&route.communities[..], &route.large_communities, &route.extended_communities].concat();
        table.row(vec![
            mark.to_owned(),
            route.prefix.clone(),
            route.next_hop.clone(),
            route.peer.clone(),
            or_dash(&route.as_path),
            route.origin.clone(),
            number(route.med),
            number(route.local_preference),
            or_dash(communities.join(" ")),
        ]);
    }
    table.print()
}

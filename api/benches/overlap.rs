//! What the overlap engine takes beside its budget: `cargo xtask bench clusters` runs this.
//!
//! Two clusters of a hundred thousand prefixes each, as such have them (podCIDRs, addresses of nodes, blocks, pools and what links
//! accept), both families. The prefixes that are asked for are all different, so that what is measured waits for memory as a stream
//! of received routes does.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use roadstead_api::kinds::RouteClass;
use roadstead_api::overlap::{Acceptance, Border, Holding, Neighbour, Territory, Vacancies, collisions};

/// Prefixes on each side.
const PREFIXES: u32 = 100_000;
/// How many prefixes are judged in one run.
const JUDGED: u32 = 1_000_000;
/// The best of so many runs counts: what else the machine does only adds.
const RUNS: usize = 5;

const BUDGET_JUDGE: Duration = Duration::from_micros(1);
const BUDGET_CHECK: Duration = Duration::from_secs(1);

/// Prints a row for each figure; fails when one is over its budget.
#[allow(clippy::print_stdout, reason = "this program is its output")]
fn main() -> ExitCode {
    let border = border();
    let held = border.own().len() + border.neighbours().len();
    println!("overlap engine, {held} local and accepted prefixes, best of {RUNS} runs");
    let mut all_within = true;
    let mut row = |what: &str, took: Duration, budget: Duration| {
        let verdict = if took < budget { "within" } else { "OVER" };
        all_within &= took < budget;
        println!("  {what:<58} {took:>12.3?}   {verdict} {budget:?}");
    };
    let from = Neighbour::Link("south".to_owned());
    let judge = |what: fn(u32) -> IpNet| {
        let each = |number| black_box(border.judge(&from, black_box(what(number)))).is_ok();
        best(|| (0..JUDGED).filter(|number| each(*number)).count()) / JUDGED
    };
    row(
        "one received prefix, taken, IPv4",
        judge(|n| ipv4(0x1440_0000 + (scatter(n) & 0xffff) * 16, 28)),
        BUDGET_JUDGE,
    );
    row("one received prefix, taken, IPv6", judge(|n| ipv6(0xfd14, scatter(n) & 0xffff, 64)), BUDGET_JUDGE);
    row(
        "one received prefix, refused: ours",
        judge(|n| ipv4(0x0a00_0000 + (scatter(n) & 0x7fff) * 256, 26)),
        BUDGET_JUDGE,
    );
    row(
        "one received prefix, refused: covers ours",
        judge(|n| ipv4(0x0a00_0000 + (scatter(n) & 0x7f) * 65536, 16)),
        BUDGET_JUDGE,
    );
    row(
        "one received prefix, refused: not accepted",
        judge(|n| ipv4(0xac10_0000 + (scatter(n) & 0xffff) * 16, 28)),
        BUDGET_JUDGE,
    );
    let (north, south) = (territory("north", 0), territory("south", 20_000));
    let check = best(|| {
        let found = collisions(&north, &south);
        let mut vacancies = Vacancies::beside([&north, &south]);
        found.iter().filter(|collision| vacancies.propose(collision.range).is_some()).count()
    });
    let found = collisions(&north, &south).len();
    let what = format!("full check of {} and {} prefixes: {found} collisions", north.len(), south.len());
    row(&what, check, BUDGET_CHECK);
    if all_within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The shortest of some runs.
fn best(mut work: impl FnMut() -> usize) -> Duration {
    let time = |_| {
        let begin = Instant::now();
        black_box(work());
        begin.elapsed()
    };
    (0..RUNS).map(time).min().unwrap_or_default()
}

/// A hundred thousand prefixes: podCIDRs of 20,000 Nodes, two addresses of each and a block of each.
fn territory(cluster: &str, shift: u32) -> Territory {
    let cluster: Arc<str> = cluster.into();
    let mut territory = Territory::default();
    for number in shift..shift + PREFIXES / 5 {
        let node = || format!("node-{number}");
        territory.insert(ipv4(0x0a00_0000 + number * 256, 24), Holding::PodCidr(node()).of(&cluster));
        territory.insert(ipv4(0x6440_0000 + number * 64, 26), Holding::Block(node()).of(&cluster));
        territory.insert(ipv6(0xfd0a, number, 64), Holding::PodCidr(node()).of(&cluster));
        // Half of these are the same in both clusters.
        let address = number % (PREFIXES / 5) + shift / 2;
        territory.insert(ipv4(0xc0a8_0000 + address, 32), Holding::NodeAddress(node()).of(&cluster));
        territory.insert(ipv6(0xfd0b, address, 128), Holding::NodeAddress(node()).of(&cluster));
    }
    territory
}

fn border() -> Border {
    let mut border = Border::default();
    let own = territory("north", 0);
    border.own_mut().extend(own.iter().map(|held| (held.prefix, held.holder.holding.clone().ours())));
    let accept = |link: String, class| Acceptance {
        created: String::new(),
        from: Neighbour::Link(link),
        class: Some(class),
        carved_from: None,
    };
    for (prefix, class) in [
        (ipv4(0x1440_0000, 10), RouteClass::Pods),
        (ipv4(0x1480_0000, 12), RouteClass::Services),
        (ipv6(0xfd14, 0, 16), RouteClass::Pods),
    ] {
        border.neighbours_mut().insert(prefix, accept("south".to_owned(), class));
    }
    for number in 0..200 {
        let prefix = ipv4(0x2000_0000 + number * 65536, 16);
        border.neighbours_mut().insert(prefix, accept(format!("link-{number}"), RouteClass::Pods));
    }
    border
}

/// Numbers in an order that no cache foresees (Knuth's multiplicative hash).
fn scatter(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761) >> 8
}

fn ipv4(bits: u32, length: u8) -> IpNet {
    IpNet::new_assert(Ipv4Addr::from(bits).into(), length)
}

fn ipv6(block: u128, number: u32, length: u8) -> IpNet {
    IpNet::new_assert(Ipv6Addr::from(block << 112 | u128::from(number) << 64).into(), length)
}

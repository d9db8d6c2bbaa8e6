//! The plan beside a naive one, which looks at everything each time.

use proptest::prelude::*;

use super::*;

/// Some within others, some beside them.
const PREFIXES: [&str; 8] = [
    "10.0.0.0/8",
    "10.2.0.0/16",
    "10.2.0.0/24",
    "10.2.3.0/24",
    "10.3.0.0/16",
    "2001:db8::/32",
    "2001:db8::/48",
    "2001:db8:0:1::/64",
];
const NEXT_HOPS: [&str; 4] = ["192.0.2.1", "192.0.2.2", "2001:db8:f::1", "2001:db8:f::2"];

fn prefix(index: usize) -> IpNet {
    PREFIXES[index].parse().unwrap()
}

fn next_hop(index: usize) -> IpAddr {
    NEXT_HOPS[index].parse().unwrap()
}

fn foreign() -> Foreign {
    Foreign { protocol: "static".to_owned(), link: Some(1), is_connected: false }
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, BTreeSet<usize>),
    /// By a route (link 1 or 2), by the default route, or not.
    Reach(usize, u8),
    Foreign(BTreeSet<usize>),
    AddForeign(usize),
    /// Somebody takes these out of the kernel.
    Lose(BTreeSet<usize>),
    /// The kernel refuses this one until the next step.
    Refuse(usize),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::btree_set(0..PREFIXES.len(), 0..4);
    prop_oneof![
        4 => (0..PREFIXES.len(), prop::collection::btree_set(0..NEXT_HOPS.len(), 0..4)).prop_map(|(at, hops)| Step::Set(at, hops)),
        2 => (0..NEXT_HOPS.len(), 0..4_u8).prop_map(|(at, how)| Step::Reach(at, how)),
        1 => some().prop_map(Step::Foreign),
        2 => (0..PREFIXES.len()).prop_map(Step::AddForeign),
        2 => some().prop_map(Step::Lose),
        1 => (0..PREFIXES.len()).prop_map(Step::Refuse),
        1 => Just(Step::Settle),
    ]
}

/// What is said and seen, and nothing derived from it.
#[derive(Default)]
struct Naive {
    wanted: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    reach: BTreeMap<IpAddr, Reach>,
    foreign: BTreeSet<IpNet>,
    adopted: BTreeMap<IpNet, Entry>,
}

impl Naive {
    fn table(&self) -> BTreeMap<IpNet, Entry> {
        let mut table = self.adopted.clone();
        let covers = self.wanted.keys().chain(self.adopted.keys());
        let covers: Vec<&IpNet> = covers.collect();
        for prefix in &self.foreign {
            if covers.iter().any(|cover| *cover != prefix && cover.contains(prefix))
                && !self.adopted.contains_key(prefix)
            {
                table.insert(*prefix, Entry::Throw);
            }
        }
        for (prefix, next_hops) in self.wanted.iter().filter(|(prefix, _)| !self.foreign.contains(*prefix)) {
            let all = |is_default: bool| -> BTreeSet<Hop> {
                let reaches = next_hops.iter().filter(|hop| prefix.addr().is_ipv4() || hop.is_ipv6());
                reaches
                    .filter_map(|hop| match self.reach.get(hop) {
                        Some(Reach::Route(hops)) if !is_default => Some(hops),
                        Some(Reach::Default(hops)) if is_default => Some(hops),
                        _ => None,
                    })
                    .flatten()
                    .copied()
                    .collect()
            };
            let ways = if all(false).is_empty() { all(true) } else { all(false) };
            if !ways.is_empty() {
                table.insert(*prefix, Entry::Ways(ways));
            }
        }
        table
    }
}

fn reach(address: IpAddr, how: u8) -> Reach {
    let hops = |link| BTreeSet::from([Hop { via: address, link }]);
    match how {
        0 => Reach::No("no".to_owned()),
        1 => Reach::Default(hops(9)),
        link => Reach::Route(hops(u32::from(link))),
    }
}

/// Does what the plan says.
fn apply(plan: &mut Plan, refused: Option<IpNet>) {
    for change in plan.changes() {
        if refused == Some(change.prefix) {
            plan.failed(change.prefix, "refused".to_owned());
        } else {
            plan.done(change);
        }
    }
}

proptest! {
    #[test]
    fn as_the_naive_one(left in prop::collection::btree_set(0..PREFIXES.len(), 0..4), steps in prop::collection::vec(step(), 1..40)) {
        let (mut plan, mut naive) = (Plan::default(), Naive::default());
        let old = |index| (prefix(index), Entry::Ways(BTreeSet::from([Hop { via: next_hop(3), link: 7 }])));
        naive.adopted = left.into_iter().map(old).collect();
        plan.adopt(naive.adopted.clone());
        for step in steps {
            let mut refused = None;
            match step {
                Step::Set(at, hops) => {
                    let hops: BTreeSet<IpAddr> = hops.into_iter().map(next_hop).collect();
                    naive.adopted.remove(&prefix(at));
                    plan.set(prefix(at), hops.clone());
                    naive.wanted.insert(prefix(at), hops);
                    naive.wanted.retain(|_, hops| !hops.is_empty());
                }
                Step::Reach(at, how) => {
                    naive.reach.insert(next_hop(at), reach(next_hop(at), how));
                    plan.reach(next_hop(at), reach(next_hop(at), how));
                }
                Step::Foreign(all) => {
                    naive.foreign = all.into_iter().map(prefix).collect();
                    plan.replace_foreign(naive.foreign.iter().map(|prefix| (*prefix, foreign())).collect());
                }
                Step::AddForeign(at) => {
                    naive.foreign.insert(prefix(at));
                    plan.add_foreign(prefix(at), foreign());
                }
                Step::Lose(lost) => {
                    let lost: BTreeSet<IpNet> = lost.into_iter().map(prefix).collect();
                    naive.adopted.retain(|prefix, _| !lost.contains(prefix));
                    let found = plan.kernel.entries.iter().filter(|(prefix, _)| !lost.contains(*prefix));
                    let found = found.map(|(prefix, entry)| (*prefix, entry.clone())).collect();
                    plan.observe(found);
                }
                Step::Refuse(at) => refused = Some(prefix(at)),
                Step::Settle => {
                    naive.adopted.clear();
                    plan.settle();
                }
            }
            // What nobody wants any more is not remembered: its reach is asked for again.
            for address in plan.unknown_next_hops() {
                let how = naive.reach.entry(address).or_insert_with(|| Reach::No("no".to_owned())).clone();
                plan.reach(address, how);
            }
            apply(&mut plan, refused);
            plan.retry();
            apply(&mut plan, None);
            prop_assert_eq!(&plan.kernel.entries, &naive.table());
            let ways = plan.kernel.entries.values().filter(|entry| matches!(entry, Entry::Ways(_))).count();
            prop_assert_eq!(plan.installed(), ways);
            let missing = naive.wanted.keys().filter(|prefix| !matches!(plan.kernel.entries.get(*prefix), Some(Entry::Ways(_))));
            prop_assert_eq!(plan.missing().keys().collect::<Vec<_>>(), missing.collect::<Vec<_>>());
            prop_assert!(plan.changes().is_empty());
        }
    }
}

#[test]
fn what_keeps_a_prefix_off_is_there_before_it_and_after() {
    let mut plan = Plan::default();
    let (wide, narrow) = (prefix(0), prefix(3));
    plan.replace_foreign(BTreeMap::from([(narrow, foreign())]));
    plan.set(wide, BTreeSet::from([next_hop(0)]));
    plan.reach(next_hop(0), reach(next_hop(0), 2));
    let order = |changes: &[Change]| changes.iter().map(|change| change.prefix).collect::<Vec<_>>();
    let changes = plan.changes();
    assert_eq!(order(&changes), [narrow, wide]);
    changes.into_iter().for_each(|change| plan.done(change));
    plan.set(wide, BTreeSet::new());
    assert_eq!(order(&plan.changes()), [wide, narrow]);
}

//! What routers make of messages that nobody should send: ours, and four that other people wrote.
//!
//! The messages are those of `bgp/tests/sans_io/cases`, which is included here as source: it knows nothing but bytes, so this
//! crate still links nothing of ours. Each case is a neighbour of its own, with an address of its own, and so is judged alone;
//! all of them speak at once, because a router that holds back those who have erred (BIRD, GoBGP and OpenBGPD do, for up to
//! a minute) would otherwise take hours.
//!
//! ```text
//!   [ e2e-scripted-peers ] 10.98.1.1, 10.98.1.2, ... ---eth0--- 10.98.255.1 [ router under test ]
//! ```
//!
//! What a router did is read where its operator would look: how the session ended from the NOTIFICATION, what became of the
//! route from the router's own `show` command. That the case has been digested is known by a good route sent behind it.
//!
//! Surprises: Debian's FRR does not survive a route without AS_PATH beside another route to the same prefix, nor its GoBGP
//! a message type that it does not know or a second OPEN, so a router that crashes is part of the picture; BIRD's listener
//! queues eight connections, so peers come one after the other.

mod bird;
#[path = "../../bgp/tests/sans_io/cases/mod.rs"]
mod cases;
mod frr;
mod gobgp;
mod openbgpd;
mod peers;
mod roadstead;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::cases::{Case, Look, Moment, Session};
use self::peers::{Ended, Peers};
use crate::network::{Fabric, Namespace};
use crate::process::Process;
use crate::scene::Scene;
use crate::wait::wait_until;

pub use self::table::Table;

/// From the start of a router until it has digested everything; each of them takes a few seconds of it.
const DIGESTED: Duration = Duration::from_secs(120);
/// What is left of it when what has not come is taken not to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A neighbour of the router under test, as it has to be configured.
struct Neighbor {
    address: Ipv4Addr,
    session: Session,
}

/// A route that a router shows.
#[derive(Debug, Clone, Default)]
struct Route {
    med: Option<u32>,
    /// The types of those attributes that are shown with it.
    attributes: BTreeSet<u8>,
}

/// The routes that a router shows for one prefix, by the neighbour that they came from.
type Routes = BTreeMap<Ipv4Addr, Route>;

/// A router under test.
trait Router {
    /// With the version that its package has.
    fn name(&self) -> &'static str;

    fn routes(&self, prefix: &str) -> Result<Routes>;

    /// The types of the attributes that it shows where a route has them.
    fn shows(&self) -> &'static [u8];

    fn process(&mut self) -> &mut Process;
}

/// What a router made of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Reset(u8, u8),
    Closed,
    /// The session is up, and that is all that there is to see.
    Up,
    /// The route is there, with the attribute.
    With,
    /// The route is there, without the attribute.
    Without,
    /// The route is there; the attribute is one that the router does not show.
    Present,
    /// The route is there as it was before.
    Earlier,
    NoRoute,
    /// The session is up, and what was sent behind the case never shows.
    Stuck,
    /// The router is no more.
    Crash,
}

impl Seen {
    fn in_words(self) -> String {
        match self {
            Self::Reset(code, subcode) => format!("reset {code}/{subcode}"),
            Self::Closed => "closed".to_owned(),
            Self::Up => "session up".to_owned(),
            Self::With | Self::Present => "route".to_owned(),
            Self::Without => "route without it".to_owned(),
            Self::Earlier => "earlier route".to_owned(),
            Self::NoRoute => "no route".to_owned(),
            Self::Stuck => "stuck".to_owned(),
            Self::Crash => "crash".to_owned(),
        }
    }
}

type Start = fn(&Scene, &Namespace, &[Neighbor]) -> Result<Box<dyn Router>>;

/// Every case by every router. Fails when ours does anything else than the cases say.
pub fn compare(scene: &Scene) -> Result<Table> {
    let cases = cases::all();
    let everyone: Vec<&Case> = cases.iter().collect();
    let ours = with_router(scene, "roadstead", &everyone, |machine, neighbors, peers| {
        roadstead::judge(scene, machine, neighbors, peers, &everyone)
    })?;
    scene.step(&format!("Roadstead does with {} messages what it should", cases.len()));
    let mut table = Table::new(&cases, &ours)?;
    let others: [(&str, Start); 4] =
        [("bird", bird::start), ("frr", frr::start), ("gobgp", gobgp::start), ("openbgpd", openbgpd::start)];
    for (label, start) in others {
        let mut trial =
            Trial { scene, label, start, name: "", rounds: 0, companion: cases.first().context("no case")? };
        // Those that have crashed it before get a router of their own; the others share one.
        let (suspects, rest): (Vec<&Case>, Vec<&Case>) =
            everyone.iter().partition(|case| table.has_crashed(label, case));
        let mut seen = trial.judge(&rest)?;
        for suspect in suspects {
            seen.extend(trial.judge(&[suspect])?);
        }
        table.add(trial.name, &seen);
        scene.step(&format!("{} has been sent the same", trial.name));
    }
    Ok(table)
}

/// What became of each case, by its name and session.
type Verdicts = BTreeMap<(String, Session), Seen>;

/// One kind of router, started as often as it takes.
struct Trial<'a> {
    scene: &'a Scene,
    label: &'static str,
    start: Start,
    name: &'static str,
    rounds: usize,
    /// A neighbour with nothing wrong: there is always another path to compare with, which is where some routers stumble.
    companion: &'a Case,
}

impl Trial<'_> {
    /// A router that does not survive is started again with half of the cases, until it is known which one it was.
    fn judge(&mut self, cases: &[&Case]) -> Result<Verdicts> {
        if let Some(verdicts) = self.round(cases)? {
            return Ok(verdicts);
        }
        if let [case] = cases {
            return Ok(Verdicts::from([((case.name.clone(), case.session), Seen::Crash)]));
        }
        let (first, second) = cases.split_at(cases.len() / 2);
        let mut verdicts = self.judge(first)?;
        verdicts.extend(self.judge(second)?);
        Ok(verdicts)
    }

    /// `None`: the router has not survived.
    fn round(&mut self, cases: &[&Case]) -> Result<Option<Verdicts>> {
        self.rounds += 1;
        let label = format!("{}-{}", self.label, self.rounds);
        let cases: Vec<&Case> = std::iter::once(self.companion).chain(cases.iter().copied()).collect();
        with_router(self.scene, &label, &cases, |machine, neighbors, peers| {
            let mut router = (self.start)(self.scene, machine, neighbors)?;
            self.name = router.name();
            let seen = judge(router.as_mut(), neighbors, &peers()?, &cases)?;
            let named = |seen: Vec<Seen>| {
                cases.iter().zip(seen).map(|(case, seen)| ((case.name.clone(), case.session), seen)).collect()
            };
            Ok(seen.map(named))
        })
    }
}

/// Two machines and a cable between them, and who of them says what.
fn with_router<T>(
    scene: &Scene,
    label: &str,
    cases: &[&Case],
    body: impl FnOnce(&Namespace, &[Neighbor], &dyn Fn() -> Result<Peers>) -> Result<T>,
) -> Result<T> {
    let fabric = Fabric::new(scene, &format!("{label}-switch"))?;
    let router = Ipv4Addr::from(cases::LOCAL_ADDRESS);
    let machine = fabric.machine(scene, label, &[&format!("{router}/16"), "fd00:98::1/64"])?;
    let peers = fabric.machine(scene, &format!("{label}-peers"), &["10.98.0.254/16", "fd00:98::fe/64"])?;
    let neighbors: Vec<Neighbor> = (0..).zip(cases).map(|(index, case)| neighbor(index, case)).collect();
    body(&machine, &neighbors, &|| Peers::start(scene, &peers, router, &neighbors, cases))
}

fn neighbor(index: u32, case: &Case) -> Neighbor {
    // From 10.98.1.0 on; none of them is the next hop, 10.98.0.254.
    Neighbor { address: Ipv4Addr::from_bits(Ipv4Addr::new(10, 98, 1, 0).to_bits() + index), session: case.session }
}

/// `None`: the router has not survived.
fn judge(router: &mut dyn Router, neighbors: &[Neighbor], peers: &Peers, cases: &[&Case]) -> Result<Option<Vec<Seen>>> {
    let deadline = Instant::now() + DIGESTED;
    wait_until("every case to be digested", DIGESTED, || {
        if router.process().ensure_running().is_err() {
            return Ok(None);
        }
        let ended = peers.ended()?;
        let digested = router.routes(cases::SENTINEL)?;
        let is_done = |(ended, neighbor): (&Option<Ended>, &Neighbor)| {
            ended.is_some() || digested.contains_key(&neighbor.address)
        };
        let done: Vec<bool> = ended.iter().zip(neighbors).map(is_done).collect();
        // What is stuck is seen by waiting, and only so.
        ensure!(!done.contains(&false) || Instant::now() + PATIENCE > deadline, "some are not digested");
        let (ipv4, ipv6) = (router.routes(cases::PREFIX_V4)?, router.routes(cases::PREFIX_V6)?);
        let seen = cases.iter().zip(neighbors).zip(ended.iter().zip(done)).map(|((case, neighbor), (ended, done))| {
            match (ended, case.look) {
                // It took the OPEN; when a hold time of one second is over is for the load of the machine to say.
                (Some(Ended::Reset(4, _)), Look::Session) => Seen::Up,
                (Some(Ended::Reset(code, subcode)), _) => Seen::Reset(*code, *subcode),
                (Some(Ended::Closed), _) => Seen::Closed,
                (None, _) if !done => Seen::Stuck,
                (None, Look::Session) => Seen::Up,
                (None, Look::Ipv4) => look(case, router, ipv4.get(&neighbor.address)),
                (None, Look::Ipv6) => look(case, router, ipv6.get(&neighbor.address)),
            }
        });
        Ok(Some(seen.collect()))
    })
}

fn look(case: &Case, router: &dyn Router, route: Option<&Route>) -> Seen {
    let Some(route) = route else { return Seen::NoRoute };
    match case.attribute {
        _ if route.med == Some(1) => Seen::Earlier,
        Some(attribute) if !router.shows().contains(&attribute) => Seen::Present,
        Some(attribute) if !route.attributes.contains(&attribute) => Seen::Without,
        _ => Seen::With,
    }
}

/// The four parts of a case's story, in the order in which they are said.
fn story(case: &Case) -> Vec<Vec<u8>> {
    let mut story = vec![case.session.open(), cases::keepalive(), case.session.earlier()];
    match case.moment {
        Moment::OpenSent => story[0].clone_from(&case.bytes),
        Moment::OpenConfirm => story[1].clone_from(&case.bytes),
        Moment::Established => story.push(case.bytes.clone()),
    }
    story.push(case.session.sentinel());
    story
}

/// The number in a router's answer.
fn number(text: &str) -> Result<u32> {
    text.trim().parse().with_context(|| format!("{text} is no number"))
}

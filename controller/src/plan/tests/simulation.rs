//! Controllers that are alive at once, over one API server, on virtual time, with everything late, lost or cut short from a seed.
//!
//! One that is paused may wake up with a write under way and a cache of yesterday, and no lease can keep it from that.
//!
//! `SEEDS=5000 cargo test -p roadstead-controller simulation` runs more seeds of every scene; `SEED=17` runs that one and prints its
//! journal.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use roadstead_api::checked::ServiceKey;

use super::journal::{answered, asked, told};
use super::world::{Kind, Millis, Reply, Request, World};
use crate::plan::*;

/// Seeds of each scene that every test run tries; thousands are for a person with time.
const SEEDS: u64 = 60;
/// While people change things and controllers are killed.
const BUSY: Millis = 40_000;
/// When everything that can go on by itself must have ended.
const QUIET: Millis = 100_000;
const END: Millis = 160_000;
/// More steps than any run takes: one that goes on has begun to repeat itself.
const STEPS: usize = 60_000;
/// Writes under way for one controller.
const WRITES: usize = 16;

/// A run: how many controllers, and whether they are killed.
#[derive(Clone, Copy, Debug)]
struct Scene {
    controllers: usize,
    kills: bool,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, end: u64) -> bool {
        self.below(end) == 0
    }

    /// Mostly a little, at times a lot.
    fn delay(&mut self) -> Millis {
        match self.below(10) {
            0 => self.below(3000),
            1..3 => self.below(300),
            _ => 1 + self.below(20),
        }
    }
}

/// Something that is to happen.
enum Action {
    /// People do something.
    People,
    Kill(usize),
    Start(usize),
    /// A controller's list of a kind is read.
    List(usize, u32, Kind),
    /// The next event of a kind reaches a controller.
    Deliver(usize, u32, Kind),
    /// A request reaches the API server.
    Commit(Flight),
    /// An answer reaches the controller.
    Answer(Flight, WriteResult),
    Deadline(usize, u32),
}

/// A write under way.
struct Flight {
    controller: usize,
    life: u32,
    write: Write,
    request: Request,
}

/// A controller, and what is on its way to it.
#[derive(Default)]
struct Controller {
    plan: Option<Plan>,
    /// How often it was started: what was meant for an earlier life is lost.
    life: u32,
    streams: BTreeMap<Kind, Stream>,
    writes: usize,
    deadline: Option<Millis>,
}

/// Events of one kind, in order.
#[derive(Default)]
struct Stream {
    events: VecDeque<Option<Event>>,
    /// When the last of them is delivered.
    last: Millis,
}

struct Simulation {
    random: Random,
    scene: Scene,
    start: Instant,
    now: Millis,
    sequence: u64,
    actions: BTreeMap<(Millis, u64), Action>,
    world: World,
    controllers: Vec<Controller>,
    last_write: Millis,
}

impl Simulation {
    fn new(seed: u64, scene: Scene) -> Self {
        let mut world = World::default();
        world.apply_pool("public", r#"{"addresses":["203.0.113.1-203.0.113.6","2001:db8::1-2001:db8::4"]}"#);
        world.apply_pool("spare", r#"{"addresses":["192.0.2.1-192.0.2.3"],"priority":9}"#);
        world.events.clear();
        let mut simulation = Self {
            random: Random(seed),
            scene,
            start: Instant::now(),
            now: 0,
            sequence: 0,
            actions: BTreeMap::new(),
            world,
            controllers: (0..scene.controllers).map(|_| Controller::default()).collect(),
            last_write: 0,
        };
        for index in 0..scene.controllers {
            let begin = simulation.random.below(2000);
            simulation.at(begin, Action::Start(index));
        }
        let mut time = 0;
        while time < BUSY {
            simulation.at(time, Action::People);
            time += match simulation.random.below(3) {
                0 => simulation.random.below(20),
                _ => simulation.random.below(1500),
            };
        }
        if scene.kills {
            for _ in 0..simulation.random.below(6) {
                let (time, index) = (simulation.random.below(BUSY), simulation.random.below(scene.controllers as u64));
                simulation.at(time, Action::Kill(index as usize));
            }
        }
        simulation
    }

    fn at(&mut self, time: Millis, action: Action) {
        self.sequence += 1;
        self.actions.insert((time, self.sequence), action);
    }

    fn clock(&self) -> Now {
        let wall: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Now {
            instant: self.start + Duration::from_millis(self.now),
            wall: wall + SignedDuration::from_millis(self.now as i64),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            let Some(((time, _), action)) = self.actions.pop_first() else { break };
            if time > END {
                break;
            }
            self.now = time;
            self.step(action);
            self.publish();
            for index in 0..self.controllers.len() {
                self.pump(index);
            }
            self.world.check_always(self.now)?;
            if let Some(moved) = self.world.moves.first()
                && self.scene.controllers == 1
            {
                return Err(moved.clone());
            }
        }
        if self.now < END && !self.actions.is_empty() {
            return Err(format!("still at it after {STEPS} steps"));
        }
        if self.last_write > QUIET {
            return Err(format!("still writing at {}", self.last_write));
        }
        self.world.check_settled()?;
        Ok(())
    }

    fn step(&mut self, action: Action) {
        match action {
            Action::People => self.people(),
            Action::Kill(index) => {
                self.world.note(self.now, format!("controller {index} is killed"));
                self.controllers[index].plan = None;
                let begin = self.now + self.random.delay();
                self.at(begin, Action::Start(index));
            }
            Action::Start(index) => {
                let life = self.controllers[index].life + 1;
                self.controllers[index] = Controller { plan: Some(Plan::default()), life, ..Controller::default() };
                self.world.note(self.now, format!("controller {index} begins"));
                for kind in Kind::ALL {
                    let time = self.now + self.random.delay();
                    self.at(time, Action::List(index, life, kind));
                }
            }
            Action::List(index, life, kind) if self.is_alive(index, life) => {
                self.controllers[index].streams.insert(kind, Stream::default());
                for event in self.world.list(kind) {
                    self.send(index, kind, Some(event));
                }
                self.send(index, kind, None);
            }
            Action::Deliver(index, life, kind) if self.is_alive(index, life) => self.deliver(index, kind),
            Action::Commit(flight) => self.commit(flight),
            Action::Answer(flight, result) if self.is_alive(flight.controller, flight.life) => {
                self.world.note(self.now, format!("controller {} knows {}", flight.controller, answered(&result)));
                let now = self.clock();
                let controller = &mut self.controllers[flight.controller];
                controller.writes -= 1;
                if let Some(plan) = &mut controller.plan {
                    plan.handle_result(now, result);
                }
            }
            Action::Deadline(index, life) if self.is_alive(index, life) => {
                let now = self.clock();
                self.controllers[index].deadline = None;
                if let Some(plan) = &mut self.controllers[index].plan {
                    plan.handle_deadline(now);
                }
            }
            Action::List(..) | Action::Deliver(..) | Action::Answer(..) | Action::Deadline(..) => {}
        }
    }

    fn is_alive(&self, index: usize, life: u32) -> bool {
        self.controllers[index].life == life && self.controllers[index].plan.is_some()
    }

    fn deliver(&mut self, index: usize, kind: Kind) {
        let now = self.clock();
        let controller = &mut self.controllers[index];
        let Some(event) = controller.streams.get_mut(&kind).and_then(|stream| stream.events.pop_front()) else {
            return;
        };
        let Some(plan) = &mut controller.plan else { return };
        match event {
            Some(event) => {
                self.world.note(self.now, format!("controller {index} hears {}", told(&event)));
                plan.handle_event(now, event);
            }
            None => {
                // The end of a list; the plan begins after the last of them.
                let listed = |kind| {
                    controller.streams.get(kind).is_some_and(|stream| !stream.events.iter().any(Option::is_none))
                };
                if Kind::ALL.iter().all(listed) {
                    plan.handle_event(now, Event::Synced);
                }
            }
        }
    }

    fn send(&mut self, index: usize, kind: Kind, event: Option<Event>) {
        let delay = self.random.delay();
        let (now, life) = (self.now, self.controllers[index].life);
        let Some(stream) = self.controllers[index].streams.get_mut(&kind) else { return };
        stream.last = stream.last.max(now + delay);
        stream.events.push_back(event);
        let time = stream.last;
        self.at(time, Action::Deliver(index, life, kind));
    }

    fn publish(&mut self) {
        for (kind, event) in std::mem::take(&mut self.world.events) {
            for index in 0..self.controllers.len() {
                self.send(index, kind, Some(event.clone()));
            }
        }
    }

    fn pump(&mut self, index: usize) {
        let now = self.clock();
        let controller = &mut self.controllers[index];
        let Some(plan) = &mut controller.plan else { return };
        while let Some(write) = plan.poll_report(now) {
            if let Write::PoolStatus(name, _) = write {
                plan.handle_result(now, WriteResult::PoolStatus(name, true));
            }
        }
        let mut flights = Vec::new();
        while controller.writes + flights.len() < WRITES
            && let Some(write) = plan.poll_write()
        {
            let request = match write.clone() {
                Write::CreateClaim(claim) => Request::Create(claim),
                Write::ReplaceClaim(claim, version) => Request::Replace(claim, version),
                Write::DeleteClaim(net, version) => Request::Delete(net, version),
                Write::ServiceStatus { key, version, addresses } => Request::Status(key, version, addresses),
                Write::PoolStatus(..) | Write::PodPoolStatus(..) | Write::Notice(_) => {
                    unreachable!("those are reports")
                }
            };
            flights.push(Flight { controller: index, life: controller.life, write, request });
        }
        controller.writes += flights.len();
        let due = plan.next_deadline().map(|due| due.duration_since(self.start).as_millis() as Millis + 1);
        let due = due.map(|due| due.max(self.now + 1)).filter(|due| controller.deadline.is_none_or(|set| *due < set));
        let life = controller.life;
        if let Some(due) = due {
            controller.deadline = Some(due);
            self.at(due, Action::Deadline(index, life));
        }
        for flight in flights {
            self.last_write = self.now;
            let time = self.now + self.random.delay();
            self.at(time, Action::Commit(flight));
        }
    }

    /// A request reaches the API server, and its answer goes back; or either does not.
    fn commit(&mut self, mut flight: Flight) {
        let faults = self.now < BUSY;
        let lost_before = faults && self.random.one_in(20);
        if lost_before {
            return self.again(flight);
        }
        self.world.note(self.now, format!("controller {} asks {}", flight.controller, asked(&flight.request)));
        let reply = self.world.perform(flight.request.clone());
        if faults && self.random.one_in(15) {
            // Done, but nobody knows: `WriteError::Unavailable`.
            return self.again(flight);
        }
        let result = match (reply, &flight.write) {
            (Reply::Claim(found), Write::CreateClaim(claim) | Write::ReplaceClaim(claim, _)) => {
                WriteResult::Claim(claim.net, found)
            }
            (Reply::Claim(found), Write::DeleteClaim(net, _)) => WriteResult::Claim(*net, found),
            (Reply::Status(outcome), Write::ServiceStatus { key, version, .. }) => {
                WriteResult::ServiceStatus(key.clone(), version.uid.clone(), outcome)
            }
            (Reply::Denied, Write::CreateClaim(claim) | Write::ReplaceClaim(claim, _)) => {
                flight.request = Request::Read(claim.net);
                return self.again(flight);
            }
            (Reply::Denied, Write::DeleteClaim(net, _)) => {
                flight.request = Request::Read(*net);
                return self.again(flight);
            }
            _ => unreachable!("an answer of another kind"),
        };
        let time = self.now + self.random.delay();
        self.at(time, Action::Answer(flight, result));
    }

    /// The writer goes on asking, for as long as its process lives.
    fn again(&mut self, flight: Flight) {
        if self.is_alive(flight.controller, flight.life) {
            let time = self.now + self.random.delay();
            self.at(time, Action::Commit(flight));
        }
    }

    fn people(&mut self) {
        let key = ServiceKey {
            namespace: if self.random.one_in(4) { "other" } else { "default" }.to_owned(),
            name: format!("s{}", self.random.below(5)),
        };
        if self.random.one_in(4) {
            self.world.note(self.now, format!("people delete {key}"));
            return self.world.delete_service(&key);
        }
        let kind = if self.random.one_in(12) { "ClusterIP" } else { "LoadBalancer" };
        let mut spec = serde_json::json!({"type": kind, "ports": [{"port": 80 + self.random.below(3)}]});
        let mut annotations = Vec::new();
        match self.random.below(10) {
            0 => spec["ipFamilyPolicy"] = "RequireDualStack".into(),
            1 => spec["ipFamilyPolicy"] = "PreferDualStack".into(),
            2 => annotations.push(("addresses", format!("203.0.113.{}", 1 + self.random.below(6)))),
            3 => annotations.push(("address-pool", "spare".to_owned())),
            4..7 => annotations.push(("share-key", format!("key-{}", self.random.below(2)))),
            _ => {}
        }
        self.world.note(self.now, format!("people apply {key}: {annotations:?} {spec}"));
        self.world.apply_service(&key, &annotations, spec);
    }
}

/// Runs every seed, and prints those that fail.
#[track_caller]
#[allow(clippy::print_stderr, reason = "what a failing run is told by")]
fn check(scene: Scene) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (one, count) = (number("SEED"), number("SEEDS").unwrap_or(SEEDS));
    let (mut created, mut moves, mut unclaims, mut failures) = (0, 0, 0, Vec::new());
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        let mut simulation = Simulation::new(seed, scene);
        if let Err(failure) = simulation.run() {
            failures.push(format!("SEED={seed} at {} ms: {failure}", simulation.now));
        }
        if one.is_some() {
            eprintln!("{}", simulation.world.journal.join("\n"));
        }
        created += simulation.world.created;
        unclaims += simulation.world.unclaims;
        moves += simulation.world.moves.len();
    }
    let shown = failures.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    eprintln!(
        "{scene:?}: {created} claims, {moves} moves without cause, {unclaims} without a claim, {} failures",
        failures.len()
    );
    assert!(failures.is_empty(), "{scene:?}: {} of {count} seeds fail:\n{shown}", failures.len());
}

#[test]
fn one_controller_that_is_never_killed() {
    check(Scene { controllers: 1, kills: false });
}

#[test]
fn one_controller_that_is_killed() {
    check(Scene { controllers: 1, kills: true });
}

#[test]
fn two_controllers() {
    check(Scene { controllers: 2, kills: false });
}

#[test]
fn two_controllers_that_are_killed() {
    check(Scene { controllers: 2, kills: true });
}

#[test]
fn three_controllers_that_are_killed() {
    check(Scene { controllers: 3, kills: true });
}

//! The thread: reads notes and notifications, and does in the kernel what the plan says.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;

use super::events::{Event, Events};
use super::handle::{Ending, FibError, Inbox, Notes, Unmasqueraded};
use super::kernel::{Kernel, MAIN, RULE_PRIORITY, Rules, TABLE};
use super::nftables::Nftables;
use super::plan::{Change, Entry, Plan};
use super::status::{FibStatus, MISSING_LISTED, Missing};
use super::view::View;

/// After a refusal of the kernel.
const RETRY: Duration = Duration::from_secs(1);
/// Whatever others do, reading the kernel anew takes a tenth of the time at most.
const REST: u32 = 10;
const SHORTEST_REST: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Owns everything that the kernel has of us.
pub(super) struct Worker {
    inbox: Arc<Inbox>,
    said: watch::Sender<Arc<FibStatus>>,
    kernel: Kernel,
    events: Events,
    plan: Plan,
    view: View,
    rules: Rules,
    due: Due,
    rest_until: Instant,
    retry_at: Option<Instant>,
    /// Until when what an earlier run left is kept.
    keep_until: Option<Instant>,
    masquerading: Masquerading,
    /// The last refusal of each kind.
    refusal: Option<String>,
    in_our_table: Option<String>,
}

/// What is to be read anew.
#[derive(Default)]
struct Due {
    ours: bool,
    main: bool,
    links: bool,
    rules: bool,
    settings: bool,
    all_next_hops: bool,
    next_hops: BTreeSet<IpAddr>,
}

/// The nftables table.
struct Masquerading {
    nftables: io::Result<Nftables>,
    wanted: Option<Unmasqueraded>,
    /// When the kernel is to be told, as it does not have what is wanted.
    due: Option<Instant>,
    /// When it was told last.
    told: Option<Instant>,
    problem: Option<String>,
}

impl Worker {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        said: watch::Sender<Arc<FibStatus>>,
        keep: Duration,
    ) -> Result<Self, FibError> {
        let failed = |source| FibError { what: "open a netlink socket", source };
        let kernel = Kernel::open().map_err(failed)?;
        let events = Events::open(kernel.port()).map_err(failed)?;
        let masquerading =
            Masquerading { nftables: Nftables::open(), wanted: None, due: None, told: None, problem: None };
        let keep_until = Instant::now().checked_add(keep);
        Ok(Self {
            inbox,
            said,
            kernel,
            events,
            plan: Plan::default(),
            view: View::default(),
            rules: Rules::default(),
            due: Due::everything(),
            rest_until: Instant::now(),
            retry_at: None,
            keep_until,
            masquerading,
            refusal: None,
            in_our_table: None,
        })
    }

    pub(super) fn run(mut self) {
        match self.kernel.table(TABLE) {
            Ok(found) => self.plan.adopt(found.ours),
            Err(error) => tracing::warn!(%error, "cannot read table {TABLE}: nothing of an earlier run is kept"),
        }
        self.read_what_is_due();
        loop {
            self.write();
            self.masquerading.tell();
            self.say();
            self.wait();
            for event in self.events.read() {
                self.heed(event);
            }
            self.masquerading.heed();
            let mut notes = self.inbox.take();
            let ending = notes.close.take();
            self.obey(notes);
            if let Some(ending) = ending {
                self.end(ending);
                return;
            }
            let now = Instant::now();
            if self.keep_until.is_some_and(|until| until <= now) {
                self.settle();
            }
            if self.retry_at.is_some_and(|at| at <= now) {
                self.retry_at = None;
                self.plan.retry();
                self.due.rules = true;
            }
            if self.rest_until <= now && self.due.is_anything() {
                self.read_what_is_due();
                let rest = (now.elapsed() * REST).clamp(SHORTEST_REST, LONGEST_REST);
                self.rest_until = Instant::now() + rest;
            }
        }
    }

    /// Until there is something to do.
    fn wait(&self) {
        let rest = self.due.is_anything().then_some(self.rest_until);
        let soonest = [rest, self.retry_at, self.keep_until, self.masquerading.due].into_iter().flatten().min();
        let rest = soonest.map(|at| at.saturating_duration_since(Instant::now()));
        // A timeout of the kernel's own is cut to a thousandth of a second, and would be asked for again and again.
        let timeout = rest.and_then(|rest| Timespec::try_from(rest + Duration::from_millis(1)).ok());
        let wake = self.inbox.wake();
        let mut sources = vec![PollFd::new(&wake, PollFlags::IN), PollFd::new(self.events.socket(), PollFlags::IN)];
        let nftables = self.masquerading.nftables.as_ref().ok().map(|nftables| nftables.events().as_fd());
        sources.extend(nftables.map(|events| PollFd::from_borrowed_fd(events, PollFlags::IN)));
        // A signal that somebody else was to have only means one more round.
        let _ = poll(&mut sources, timeout.as_ref());
    }

    fn obey(&mut self, notes: Notes) {
        for (prefix, hops) in notes.changes {
            self.plan.set(prefix, hops);
        }
        if let Some(wanted) = notes.unmasqueraded {
            self.masquerading.want(wanted);
        }
        if notes.settle {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.keep_until = None;
        self.plan.settle();
        if self.masquerading.wanted.is_none() {
            self.masquerading.want(Unmasqueraded::default());
        }
    }

    fn heed(&mut self, event: Event) {
        tracing::trace!(?event, "somebody else changed something");
        match event {
            Event::Link(index, link) => {
                if self.view.links.get(&index) == Some(&link) {
                    return;
                }
                self.view.links.insert(index, link);
                self.link_changed(index);
            }
            Event::LinkGone(index) => {
                self.view.links.remove(&index);
                self.link_changed(index);
            }
            // Of IPv4, the kernel does not say which routes go with an address.
            Event::Address => {
                self.due.ours = true;
                self.due.main = true;
                self.due.all_next_hops = true;
            }
            Event::Rule => {
                self.due.rules = true;
                self.due.all_next_hops = true;
            }
            Event::OurTable => self.due.ours = true,
            Event::Main(prefix, Some(route)) => {
                self.due.next_hops.extend(self.plan.next_hops_in(prefix));
                self.plan.add_foreign(prefix, route);
                self.view.connect(self.plan.foreign());
            }
            // There may be another route for the same prefix, and nobody says so.
            Event::Main(prefix, None) => {
                self.due.next_hops.extend(self.plan.next_hops_in(prefix));
                self.due.main = true;
            }
            Event::Elsewhere(Some(prefix)) => self.due.next_hops.extend(self.plan.next_hops_in(prefix)),
            Event::Elsewhere(None) => self.due.all_next_hops = true,
            Event::Settings => self.due.settings = true,
            Event::Anything => self.due = Due::everything(),
        }
    }

    /// The routes of IPv4 that go with an interface go without a word.
    fn link_changed(&mut self, index: u32) {
        self.due.main = true;
        self.due.all_next_hops = true;
        self.due.settings = true;
        self.due.ours |= self.plan.links(false).chain(self.plan.links(true)).any(|link| link == index);
    }

    fn read_what_is_due(&mut self) {
        let due = std::mem::take(&mut self.due);
        if let Err(error) = self.read(&due) {
            tracing::debug!(%error, "cannot read the kernel's routes and links");
            self.due = Due::everything();
        }
        let next_hops = if due.all_next_hops { self.plan.next_hops() } else { due.next_hops.into_iter().collect() };
        for address in next_hops {
            let reach = self.kernel.reach(address);
            self.plan.reach(address, reach);
        }
        self.plan.retry();
    }

    fn read(&mut self, due: &Due) -> io::Result<()> {
        if due.links {
            self.view.links = self.kernel.links()?;
        }
        if due.main {
            self.plan.replace_foreign(self.kernel.table(MAIN)?.others);
            self.view.connect(self.plan.foreign());
        }
        if due.rules {
            self.rules = self.kernel.rules()?;
        }
        if due.ours {
            let found = self.kernel.table(TABLE)?;
            let others = found.others.iter().next();
            self.in_our_table = others.map(|(prefix, route)| {
                format!("table {TABLE} has a route to {prefix} of protocol {}, and is ours alone", route.protocol)
            });
            self.plan.observe(found.ours);
        }
        if due.settings {
            self.view.forget_settings();
        }
        Ok(())
    }

    fn write(&mut self) {
        for address in self.plan.unknown_next_hops() {
            let reach = self.kernel.reach(address);
            self.plan.reach(address, reach);
        }
        let changes = self.plan.changes();
        let mut refusal = None;
        let families = [(false, self.rules.has_ipv4), (true, self.rules.has_ipv6)];
        for (is_ipv6, has_rule) in families {
            let mut new = changes.iter().filter(|change| change.entry.is_some()).map(|change| change.prefix.addr());
            let is_needed =
                self.plan.links(is_ipv6).next().is_some() || new.any(|address| address.is_ipv6() == is_ipv6);
            if has_rule || !is_needed {
                continue;
            }
            match self.kernel.add_rule(is_ipv6) {
                Ok(()) if is_ipv6 => self.rules.has_ipv6 = true,
                Ok(()) => self.rules.has_ipv4 = true,
                Err(error) => refusal = Some(format!("the rule that leads to table {TABLE}: {}", because(&error))),
            }
        }
        if !changes.is_empty() {
            refusal = self.change(changes).or(refusal);
            self.refusal = refusal;
        } else if !self.plan.has_refused() {
            self.refusal = refusal;
        }
        if self.refusal.is_some() && self.retry_at.is_none() {
            self.retry_at = Instant::now().checked_add(RETRY);
        }
    }

    /// The answer is the last refusal of something that has to do with more than one prefix.
    fn change(&mut self, changes: Vec<Change>) -> Option<String> {
        let outcomes = match self.kernel.apply(&changes) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                // Some of them may be done: what the kernel has is read, and what it has not is tried again.
                self.due.ours = true;
                let reason = because(&error);
                for change in changes {
                    self.plan.failed(change.prefix, reason.clone());
                }
                return Some(format!("routes of table {TABLE}: {reason}"));
            }
        };
        let mut refusal = None;
        for (change, outcome) in changes.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    tracing::debug!(prefix = %change.prefix, entry = ?change.entry, "the kernel has it");
                    self.plan.done(change);
                }
                Err(error) => {
                    let reason = because(&error);
                    tracing::debug!(prefix = %change.prefix, %reason, "the kernel refuses a route");
                    refusal = Some(format!("a route to {} in table {TABLE}: {reason}", change.prefix));
                    self.plan.failed(change.prefix, format!("the kernel refuses it: {reason}"));
                }
            }
        }
        refusal
    }

    fn say(&mut self) {
        let mut problems = self.view.problems(&self.plan);
        let refusal = self.refusal.as_ref().map(|refusal| format!("the kernel refuses {refusal}"));
        problems.extend(refusal);
        problems.extend(self.masquerading.problem.clone());
        problems.extend(self.in_our_table.clone());
        let missing = self.plan.missing();
        let status = FibStatus {
            installed: self.plan.installed(),
            adopted: self.plan.adopted(),
            missing: missing
                .iter()
                .take(MISSING_LISTED)
                .map(|(prefix, reason)| (*prefix, Missing(reason.clone())))
                .collect(),
            missing_total: missing.len(),
            by_default_route: self.plan.by_default().take(MISSING_LISTED).collect(),
            problems,
            connected: self.view.connected.clone(),
        };
        self.said.send_if_modified(|said| {
            if **said == status {
                return false;
            }
            for problem in status.problems.difference(&said.problems) {
                tracing::warn!("{problem}");
            }
            *said = Arc::new(status);
            true
        });
    }

    fn end(mut self, ending: Ending) {
        match ending {
            Ending::Keep => {
                // What was said last is not lost.
                self.write();
                self.masquerading.tell();
            }
            Ending::Remove => self.remove(),
        }
        self.say();
        self.inbox.end();
    }

    fn remove(&mut self) {
        self.plan = Plan::default();
        if let Ok(found) = self.kernel.table(TABLE) {
            let (ways, throws): (Vec<_>, Vec<_>) =
                found.ours.into_iter().partition(|(_, entry)| matches!(entry, Entry::Ways(_)));
            let changes: Vec<Change> =
                ways.into_iter().chain(throws).map(|(prefix, _)| Change { prefix, entry: None }).collect();
            self.change(changes);
        }
        for is_ipv6 in [false, true] {
            if let Err(error) = self.kernel.remove_rule(is_ipv6) {
                tracing::debug!(%error, is_ipv6, "rule {RULE_PRIORITY} stays");
            }
        }
        self.masquerading.want(Unmasqueraded::default());
        self.masquerading.tell();
    }
}

impl Due {
    fn everything() -> Self {
        Self {
            ours: true,
            main: true,
            links: true,
            rules: true,
            settings: true,
            all_next_hops: true,
            next_hops: BTreeSet::new(),
        }
    }

    fn is_anything(&self) -> bool {
        self.ours
            || self.main
            || self.links
            || self.rules
            || self.settings
            || self.all_next_hops
            || !self.next_hops.is_empty()
    }
}

impl Masquerading {
    fn want(&mut self, wanted: Unmasqueraded) {
        if self.wanted.as_ref() != Some(&wanted) {
            self.wanted = Some(wanted);
            self.due = Some(Instant::now());
        }
    }

    /// Somebody else may have changed the table. Who does so all the time gets an answer once a second.
    fn heed(&mut self) {
        let Ok(nftables) = &self.nftables else { return };
        if nftables.is_disturbed() && self.wanted.is_some() && self.due.is_none() {
            tracing::debug!("somebody else changed the nftables table");
            let now = Instant::now();
            let next = self.told.and_then(|told| told.checked_add(RETRY)).map_or(now, |next| next.max(now));
            self.due = Some(next);
        }
    }

    fn tell(&mut self) {
        let now = Instant::now();
        let (Some(wanted), Some(_)) = (&self.wanted, self.due.filter(|due| *due <= now)) else { return };
        let outcome = match &mut self.nftables {
            Ok(nftables) => nftables.replace(wanted),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        self.told = Some(now);
        self.due = None;
        self.problem = None;
        match outcome {
            // Where there is nothing to keep, it is no loss that it cannot be kept.
            Err(error) if !wanted.is_empty() => {
                self.problem = Some(format!(
                    "the kernel refuses the nftables table inet roadstead: {}; until then what this node masquerades \
                     reaches other clusters with the node's address",
                    because(&error)
                ));
                self.due = now.checked_add(RETRY);
            }
            _ => {}
        }
    }
}

/// What the kernel says, and what it takes.
fn because(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error}; that takes CAP_NET_ADMIN"),
        _ => error.to_string(),
    }
}

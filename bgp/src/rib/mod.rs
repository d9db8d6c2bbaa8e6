//! What is kept of routes.
//!
//! ```text
//!   UPDATE --> [ Adj-RIB-In of its peer ]--.                              .--[ relay_out of each peer ]--> UPDATE
//!                                           +--> table: prefix, paths ----+
//!   UPDATE --> [ Adj-RIB-In of its peer ]--'     best first               '--> learned(): for the embedder
//!
//!   update_routes() ------------------------------------------------------> [ adj_rib_out of that peer ]--> UPDATE
//! ```
//!
//! The routes of all peers stand in one table, so that choosing between them is a look at one place; what one peer told
//! ([`adj_rib_in`]) is a part of it. A peer gets routes from two sources, and mostly from one of them only: what the
//! embedder wants announced ([`AdjRibOut`]), and what other peers told, if it is a client of a route server or of a
//! reflector ([`relay_out`]).

mod adj_rib_in;
mod adj_rib_out;
mod audience;
mod hash;
mod interner;
mod member;
mod next_hops;
mod page;
mod path;
mod paths;
mod refresh;
mod relay_out;
mod replacement;
mod selection;
mod sorted;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::BytesMut;
use ipnet::IpNet;

use self::audience::{Audience, Group};
use self::hash::SeededHash;
use self::member::Member;
use self::next_hops::NextHops;
use self::path::{Path, Routes};
use self::relay_out::{RelayOut, Shared, View};
use self::table::{PrefixId, Table};
use crate::update::relayed::RelaySession;
use crate::update::{EncodedAttributes, ReceivedAttributes};
use crate::{Family, LearnedPath, PeerKey, Relay, RouteAttributes};

pub(crate) use adj_rib_out::{AdjRibOut, EndOfRib};
pub(crate) use interner::Interner;
pub(crate) use member::{Identity, MemberId};
pub use next_hops::NextHopRoute;
pub use page::{Cursor, RouteFilter, RoutePage, RouteQuery, RouteTable, ShownRoute, Standing};
pub(crate) use path::{Route, Unconfirmed};
pub use selection::SelectionRule;

/// A change to what an embedder wants one peer to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// The prefix is wanted, with these attributes; an earlier announcement of it is replaced.
    Announce(IpNet, Arc<RouteAttributes>),
    /// The prefix is not wanted any more.
    Withdraw(IpNet),
}

/// A path to a prefix, and why it is chosen or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedPath {
    pub path: LearnedPath,
    pub verdict: Verdict,
}

/// A prefix whose paths have changed, and those that it has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedRoute {
    pub prefix: IpNet,
    /// As of [`Speaker::explain`](crate::Speaker::explain); none: nobody tells of it any more.
    pub paths: Vec<ExplainedPath>,
}

/// Why a path is chosen or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Best,
    /// As good as the best in everything but this, which only breaks ties: packets can be spread over both.
    Equal(SelectionRule),
    /// This made the best path better.
    Worse(SelectionRule),
    /// No route leads to its next hop (RFC 4271 section 9.1.2.1), so it is none to choose.
    Unreachable,
}

/// What has happened to the paths of a prefix.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// There is one more, at this place.
    Added(usize),
    Other,
}

/// The accepted routes of all peers.
#[derive(Debug)]
pub(crate) struct Rib {
    table: Table,
    routes: Routes,
    /// By member.
    members: Vec<Member>,
    identities: Vec<Identity>,
    relays: Vec<Relay>,
    free: Vec<MemberId>,
    /// Who has a session on which others' routes are passed on. One that nobody is left in keeps its place, for the next.
    groups: Vec<Group>,
    /// Those of them that have something to write since [`Rib::take_woken`].
    woken: Vec<MemberId>,
    /// Nothing is told of others' routes for the time being; what is to be told is noted as ever.
    held: bool,
    octets: Vec<u8>,
    /// Whose paths have changed since somebody looked; nothing while nobody does.
    followed: Option<BTreeSet<IpNet>>,
    /// Of the embedder's routes.
    encoded: EncodedAttributes,
    /// Once something is known of them.
    next_hops: Option<Box<NextHops>>,
}

const NOBODY: Identity =
    Identity { internal: false, transparent: false, router_id: 0, address: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };

impl Rib {
    /// `seed` is for the hashes, and decides nothing that can be seen.
    pub(crate) fn new(seed: u64) -> Self {
        let hash = SeededHash::new(seed);
        Self {
            table: Table::new(hash),
            routes: Routes::new(hash),
            members: Vec::new(),
            identities: Vec::new(),
            relays: Vec::new(),
            free: Vec::new(),
            groups: Vec::new(),
            woken: Vec::new(),
            held: false,
            octets: Vec::new(),
            followed: None,
            encoded: EncodedAttributes::default(),
            next_hops: None,
        }
    }

    pub(crate) fn add_member(&mut self, key: PeerKey, relay: Relay) -> MemberId {
        let member = Member::new(key);
        if let Some(id) = self.free.pop() {
            self.members[id.index()] = member;
            self.relays[id.index()] = relay;
            return id;
        }
        // There are not four thousand million peers.
        let id = MemberId(u32::try_from(self.members.len()).unwrap_or(u32::MAX));
        self.members.push(member);
        self.identities.push(NOBODY);
        self.relays.push(relay);
        id
    }

    /// The peer is gone, and everything that it told.
    pub(crate) fn remove_member(&mut self, member: MemberId) {
        self.end_session(member);
        self.clear(member);
        self.free.push(member);
    }

    /// The peer has another part. Between sessions only.
    pub(crate) fn set_relay(&mut self, member: MemberId, relay: Relay) {
        self.relays[member.index()] = relay;
        // Others may get its paths now, or not any more.
        self.table.note_change();
    }

    pub(crate) fn key(&self, member: MemberId) -> &PeerKey {
        &self.members[member.index()].key
    }

    /// A session is up: who the peer is, and what it gets of others' routes, if it gets any.
    pub(crate) fn begin_session(&mut self, member: MemberId, identity: Identity, session: Option<RelaySession>) {
        self.end_session(member);
        if self.identities[member.index()] != identity {
            self.identities[member.index()] = identity;
            self.reorder(member);
        }
        let Some(session) = session else { return };
        let relay = self.relays[member.index()];
        let group = self.group(relay, &session);
        self.groups[group].members.push(member);
        let mut out = Box::new(RelayOut::new(session, group));
        let reachable: Vec<PrefixId> = self.table.reachable().map(|(id, _)| id).collect();
        for id in reachable {
            out.mark(id, self.table.get_mut(id), member);
        }
        out.awake = true;
        self.groups[group].note_awake();
        self.members[member.index()].out = Some(out);
    }

    /// The place of the group of such peers.
    fn group(&mut self, relay: Relay, session: &RelaySession) -> usize {
        let alike = |group: &Group| group.relay == relay && group.session == *session;
        if let Some(known) = self.groups.iter().position(alike) {
            return known;
        }
        let new = Group::new(relay, session.clone());
        let empty = self.groups.iter().position(|group| group.members.is_empty());
        let place = empty.unwrap_or(self.groups.len());
        match self.groups.get_mut(place) {
            Some(group) => *group = new,
            None => self.groups.push(new),
        }
        place
    }

    pub(crate) fn end_session(&mut self, member: MemberId) {
        if let Some(out) = self.members[member.index()].out.take() {
            let group = &mut self.groups[out.group];
            group.members.retain(|other| *other != member);
            if out.awake {
                group.note_idle();
            }
            if group.members.is_empty() {
                group.shared = Shared::default();
            }
            out.release(&mut self.table);
        }
    }

    /// The route with these attributes and this next hop, of which there is one.
    pub(crate) fn route(&mut self, attributes: &ReceivedAttributes, next_hop: IpAddr) -> Arc<Route> {
        self.octets.clear();
        attributes.encode(next_hop, &mut self.octets);
        self.routes.intern(&self.octets, next_hop, || attributes.meaning())
    }

    /// Something about the paths of `source` to this prefix has changed.
    fn mark(&mut self, id: PrefixId, source: MemberId, change: Change) {
        self.table.note_change();
        let source_relay = self.relays[source.index()];
        let destination = self.table.get_mut(id);
        if let Some(followed) = &mut self.followed {
            followed.insert(destination.prefix);
        }
        for group in self.groups.iter_mut().filter(|group| source_relay.passes_to(group.relay)) {
            let view = View { member: None, relay: group.relay, identities: &self.identities, relays: &self.relays };
            let audience = match change {
                Change::Added(position) => group.audience(destination, position, &view),
                Change::Other => Audience::All,
            };
            let receivers = match &audience {
                Audience::All => group.members.as_slice(),
                Audience::Only(member) if group.members.contains(member) => std::slice::from_ref(member),
                Audience::Only(_) | Audience::Nobody => &[],
            };
            let mut woken = 0;
            for &receiver in receivers.iter().filter(|receiver| **receiver != source) {
                let Some(out) = &mut self.members[receiver.index()].out else { continue };
                out.mark(id, destination, receiver);
                if !std::mem::replace(&mut out.awake, true) {
                    self.woken.push(receiver);
                    woken += 1;
                }
            }
            (0..woken).for_each(|_| group.note_awake());
        }
    }

    /// What was made of the embedder's routes for one peer, for others.
    pub(crate) fn encoded(&mut self) -> &mut EncodedAttributes {
        &mut self.encoded
    }

    /// Tells nobody anything of others' routes until [`Rib::release`].
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Who has got something to write.
    pub(crate) fn take_woken(&mut self) -> Vec<MemberId> {
        std::mem::take(&mut self.woken)
    }

    pub(crate) fn has_pending(&self, member: MemberId) -> bool {
        !self.held && self.members[member.index()].out.as_ref().is_some_and(|out| !out.is_idle())
    }

    /// How many paths of others the peer was told.
    pub(crate) fn told(&self, member: MemberId) -> usize {
        self.members[member.index()].out.as_ref().map_or(0, |out| out.told())
    }

    /// Everything of this family is told again (RFC 2918).
    pub(crate) fn resend(&mut self, member: MemberId, family: Family) {
        if let Some(out) = &mut self.members[member.index()].out {
            out.resend(family, &mut self.table);
        }
    }

    /// Appends the next UPDATE with others' routes. `false`: there is none.
    pub(crate) fn next_message(&mut self, member: MemberId, output: &mut BytesMut) -> bool {
        if self.held {
            return false;
        }
        let Some(mut out) = self.members[member.index()].out.take() else { return false };
        let relay = self.relays[member.index()];
        let view = View { member: Some(member), relay, identities: &self.identities, relays: &self.relays };
        let group = &mut self.groups[out.group];
        let said = out.next_message(&mut self.table, &view, &mut group.shared, output);
        match (std::mem::replace(&mut out.awake, said), said) {
            (false, true) => group.note_awake(),
            (true, false) => group.note_idle(),
            (true, true) | (false, false) => {}
        }
        self.members[member.index()].out = Some(out);
        said
    }

    /// Every route of every peer: for each prefix all paths, by the name of the peer.
    pub(crate) fn learned(&self) -> BTreeMap<IpNet, Vec<LearnedPath>> {
        let paths = |destination: &table::Destination| {
            let mut paths: Vec<LearnedPath> = destination.paths.iter().map(|path| self.learned_path(path)).collect();
            paths.sort_by(|one, other| one.peer.cmp(&other.peer));
            (destination.prefix, paths)
        };
        self.table.reachable().map(|(_, destination)| paths(destination)).collect()
    }

    /// Notes from now on which prefixes' paths change; those that there are count as changed.
    pub(crate) fn follow(&mut self) {
        self.followed = Some(self.table.reachable().map(|(_, destination)| destination.prefix).collect());
    }

    /// Takes up to `limit` of the prefixes that are noted, in their order, each with its paths as they are now.
    pub(crate) fn take_changed(&mut self, limit: usize) -> Vec<ChangedRoute> {
        let noted = self.followed.iter_mut().flat_map(|followed| std::iter::from_fn(|| followed.pop_first()));
        let prefixes: Vec<IpNet> = noted.take(limit).collect();
        prefixes.into_iter().map(|prefix| ChangedRoute { prefix, paths: self.explain(&prefix) }).collect()
    }

    /// The paths to a prefix, the best first, and why each is where it is.
    pub(crate) fn explain(&self, prefix: &IpNet) -> Vec<ExplainedPath> {
        let Some(id) = self.table.find(prefix) else { return Vec::new() };
        let destination = self.table.get(id);
        let eligible = |path: &Path| path.is_eligible(&self.identities);
        let ranked = selection::first(destination, &self.identities, usize::MAX, eligible);
        let others = destination.paths.iter().filter(|path| !eligible(path));
        let best = ranked.first().copied();
        let verdict = |path: &Path| match best {
            _ if !eligible(path) => Verdict::Unreachable,
            Some(best) if !std::ptr::eq(best, path) => {
                let rule = selection::compare(best, path, &self.identities).1;
                if rule.breaks_ties() { Verdict::Equal(rule) } else { Verdict::Worse(rule) }
            }
            _ => Verdict::Best,
        };
        let explain = |path: &Path| ExplainedPath { path: self.learned_path(path), verdict: verdict(path) };
        ranked.iter().copied().chain(others).map(explain).collect()
    }

    fn learned_path(&self, path: &Path) -> LearnedPath {
        let attributes = &path.route.attributes;
        LearnedPath {
            peer: self.key(path.member).clone(),
            path_id: path.received_id,
            stale: path.doubt.contains(Unconfirmed::Restart),
            next_hop: path.route.next_hop,
            origin: attributes.origin,
            as_path: attributes.as_path.clone(),
            med: attributes.med,
            local_preference: attributes.local_preference,
            communities: attributes.communities.clone(),
            large_communities: attributes.large_communities.clone(),
            extended_communities: attributes.extended_communities.clone(),
            only_to_customer: attributes.only_to_customer,
            aigp: attributes.aigp,
        }
    }

    /// The peer's identity decides ties, and it has got another one.
    fn reorder(&mut self, member: MemberId) {
        for id in self.members[member.index()].announced() {
            let destination = self.table.get_mut(id);
            for path in destination.paths.take() {
                selection::insert(destination, path, &self.identities);
            }
            self.mark(id, member, Change::Other);
        }
    }
}

#[cfg(test)]
mod tests;

//! Errors: of text that was to be parsed, of a configuration, and of a session.
//!
//! A [`SessionError`] is why a session is down. It is written for the person who has to do something about it: what
//! happened, with the codes of the NOTIFICATION where there was one, and what to look at.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use thiserror::Error;

use crate::bfd::BfdFailure;
use crate::notification::Notification;
use crate::{Asn, AsnRanges, Family, MaxPrefixes, PeerAsn, PeerKey, PrefixRule, Role};

/// Text that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{given:?} is not a valid {what}: expected {allowed}")]
pub struct ParseError {
    pub what: &'static str,
    pub given: String,
    pub allowed: &'static str,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, given: &str, allowed: &'static str) -> Self {
        Self { what, given: given.to_owned(), allowed }
    }
}

/// A configuration that no session could run with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error(
        "only a reflector can tell others' routes with its own next hop: a route server is in nobody's way (RFC 7947 section 2.2.1)"
    )]
    OwnNextHop,
    #[error("{field} {given} is reserved: allowed are 1 to 4294967294 except 23456 and 65535")]
    UnusableAsn { field: &'static str, given: Asn },
    #[error(
        "AS number ranges \"{given}\" allow nobody: at least one range is needed, and none may end before it begins"
    )]
    AsnRanges { given: AsnRanges },
    #[error("router ID 0.0.0.0 is not a BGP identifier: any other value is")]
    ZeroRouterId,
    #[error("hold time {given:?} is not allowed: 0 s, or 3 s to 65535 s in whole seconds")]
    HoldTime { given: Duration },
    #[error("connect retry time {given:?} is too short: at least 100 ms")]
    ConnectRetry { given: Duration },
    #[error("graceful restart time {given:?} is not allowed: 1 s to 4095 s in whole seconds")]
    RestartTime { given: Duration },
    #[error("role {given} is not allowed on an internal session: roles are between autonomous systems")]
    InternalRole { given: Role },
    #[error("peer ASN {given} may be ours: a client of a route server is in another AS (RFC 7947)")]
    InternalClient { given: PeerAsn },
    #[error("peer ASN {given} is not ours: routes are reflected inside of one AS (RFC 4456)")]
    ExternalReflection { given: PeerAsn },
    #[error("{given} paths to a prefix cannot be sent: only to clients of a route server or of a reflector")]
    SeveralPaths { given: u8 },
    #[error("no address family is enabled: at least one of IPv4 and IPv6 unicast")]
    NoFamilies,
    #[error("the password has {given} octets: TCP MD5 and TCP-AO take 1 to 80")]
    PasswordLength { given: usize },
    #[error("a hop count of 0 reaches nobody: 1 to 255")]
    ZeroHops,
    #[error("{remote} is nobody's address: an unnumbered session has :: and an interface")]
    NoRouter { remote: IpAddr },
    #[error(
        "BFD over several hops is not possible on the unnumbered session over {interface}: the router is on that link"
    )]
    UnnumberedHops { interface: String },
    #[error("source address {source_address} and peer address {remote} are of different families")]
    SourceFamily { source_address: IpAddr, remote: IpAddr },
    #[error("BFD {field} {given:?} is not allowed: 10 ms to 60 s")]
    BfdInterval { field: &'static str, given: Duration },
    #[error("BFD multiplier 0 is not allowed: 1 to 255")]
    BfdMultiplier,
    #[error(
        "prefix rule \"{given}\" matches nothing: the prefix's length <= ge <= le <= the family's longest is needed"
    )]
    PrefixRule { given: PrefixRule },
    #[error("at most 0 sessions from {prefix} are no sessions: at least 1")]
    NoSessions { prefix: IpNet },
    #[error("peers from {prefix} are {other}'s already")]
    PrefixTaken { prefix: IpNet, other: PeerKey },
    #[error(
        "a maximum of {} prefixes with a warning at {} % is not possible: at least 1 prefix, and 1 to 100 %",
        .given.limit, .given.warn_at
    )]
    MaxPrefixes { given: MaxPrefixes },
    #[error("a session cannot be closed for {given:?} after too many prefixes: at least 1 s")]
    MaxPrefixesRestart { given: Duration },
}

/// A peer, or a range of them, that the speaker has not been told about.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no peer {0}")]
pub struct UnknownPeer(pub PeerKey);

/// What is wrong with the peer's OPEN (RFC 4271 section 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    #[error("peer speaks BGP version {given}, we speak 4")]
    Version { given: u8 },
    #[error("peer says AS {given} in its OPEN, configured peerASN is {expected}")]
    PeerAsn { given: Asn, expected: Asn },
    #[error("peer says AS {given} in its OPEN, allowed are {allowed}")]
    AsnNotAllowed { given: Asn, allowed: AsnRanges },
    #[error("peer says AS {given} in its OPEN, which is reserved")]
    ReservedAsn { given: Asn },
    #[error("peer says AS {given} in its OPEN, which is not ours ({local}), but peerType is Internal")]
    NotInternal { given: Asn, local: Asn },
    #[error("peer says AS {given} in its OPEN, which is ours, but peerType is External")]
    NotExternal { given: Asn },
    #[error("peer says router ID 0.0.0.0 in its OPEN")]
    ZeroRouterId,
    #[error("peer has our own router ID {given}; inside one AS each speaker needs its own")]
    SameRouterId { given: std::net::Ipv4Addr },
    #[error("peer offers a hold time of {given} s; 0 or at least 3 are allowed")]
    HoldTime { given: u16 },
    #[error("peer sent an optional parameter of type {given}, which is unknown")]
    OptionalParameter { given: u8 },
    #[error("no address family in common: peer has {given}, we have {ours}")]
    NoCommonFamily { given: FamilyList, ours: FamilyList },
    #[error("peer says it is {given} to us in its OPEN; our role is {ours}, so it must be {}", .ours.counterpart())]
    RoleMismatch { ours: Role, given: String },
    #[error("peer says nothing of its role in its OPEN; our role is {ours} and strict, so it must say {}", .ours.counterpart())]
    NoRole { ours: Role },
    #[error("peer's OPEN is malformed: {detail}")]
    Malformed { detail: String },
}

/// Families, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyList(pub Vec<Family>);

impl std::fmt::Display for FamilyList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none that we know");
        }
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

/// Why a session went down, or does not come up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    #[error("cannot connect: {reason}")]
    DialFailed { reason: String },
    #[error("cannot connect: no answer within {after:?}{}", if *.signed {
        "; a router with another password, or without one, does not answer either" } else { "" })]
    DialTimeout { after: Duration, signed: bool },
    #[error("connection lost: {reason}")]
    ConnectionLost { reason: String },
    #[error("peer closed the connection {}", if *.established { "without a NOTIFICATION" } else {
        "before the session was up: is a BGP session with our address configured there, with the same password?" })]
    ClosedByPeer { established: bool },
    #[error("{}", .notification.received_in_words(*.local_asn))]
    NotificationReceived { notification: Notification, local_asn: Asn },
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("bad message header: {detail}")]
    Header { notification: Notification, detail: String },
    /// `octets`: the beginning of what is malformed, as in [`MalformedUpdate`](crate::MalformedUpdate).
    #[error("malformed UPDATE: {detail}")]
    Update { notification: Notification, detail: String, octets: Bytes },
    #[error("malformed ROUTE-REFRESH: {detail}")]
    RouteRefresh { notification: Notification, detail: String },
    #[error("peer sent {message} in state {state}")]
    UnexpectedMessage { message: &'static str, state: &'static str },
    #[error("hold timer expired: nothing heard from the peer for {hold:?}")]
    HoldTimerExpired { hold: Duration },
    #[error("send hold timer expired: the peer took no data for {send_hold:?}")]
    SendHoldTimerExpired { send_hold: Duration },
    /// `restart`: how long the session stays closed; `None`: until it gets another configuration.
    #[error("peer announced more than the {limit} {family} prefixes allowed by import.maxPrefixes; the session stays closed {}",
        .restart.map_or_else(|| "until its configuration changes".to_owned(), |restart| format!("for {restart:?}")))]
    MaxPrefixes { limit: u32, family: Family, restart: Option<Duration> },
    #[error("connection collision: the other connection with this peer was kept")]
    Collision,
    #[error("configuration changed")]
    ConfigurationChanged,
    #[error("peer was removed from the configuration")]
    Deconfigured,
    #[error("shut down: {text}")]
    Shutdown { text: String },
    #[error("shut down to restart: the peer keeps our routes")]
    Restarting,
    #[error("the peer has restarted: it opened another connection")]
    PeerRestarted,
    #[error("BFD session down: {failure}")]
    BfdDown { failure: BfdFailure },
}

impl SessionError {
    /// The NOTIFICATION that tells the peer, if it is to be told.
    pub(crate) fn notification(&self) -> Option<Notification> {
        Notification::for_error(self)
    }
}

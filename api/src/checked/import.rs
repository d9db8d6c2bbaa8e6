//! What is accepted from a router.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::Findings;
use super::range::parse_cidr;
use crate::kinds::{self, AigpSession, OnExcess, Purpose};

/// What is accepted from a router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Everything that none of these takes is refused.
    pub accept: Vec<PrefixRule>,
    /// How many prefixes of each family are in order.
    pub max_prefixes: Option<MaxPrefixes>,
    /// How often our own ASN may stand in a path.
    pub allow_own_asn: u8,
    /// Ranges that are refused besides those that are always.
    pub refuse: BTreeSet<Purpose>,
    /// Whether accumulated metrics count; `None`: inside our AS.
    pub aigp: Option<AigpSession>,
}

/// A limit on accepted prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// At least 1.
    pub limit: u32,
    /// In percent of the limit, 1 to 100.
    pub warn_at: u8,
    /// What the first one beyond costs.
    pub excess: Excess,
}

/// What a prefix beyond the limit costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The session.
    Close {
        /// For how long; `None`: until the object changes.
        restart: Option<Duration>,
    },
    /// That prefix.
    Drop,
}

/// A prefix and the lengths that are taken below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixRule {
    /// The prefix.
    pub prefix: IpNet,
    /// From this length on; at least the prefix's own.
    pub ge: u8,
    /// Up to this length.
    pub le: u8,
}

impl Import {
    pub(super) fn check(raw: Option<&kinds::Import>, findings: &mut Findings) -> Self {
        let Some(raw) = raw else { return Self::default() };
        let mut accept = Vec::new();
        for (index, rule) in raw.accept.iter().enumerate() {
            let field = format!("spec.import.accept[{index}]");
            let Some(prefix) = findings.take(format!("{field}.prefix"), &rule.prefix, parse_cidr(&rule.prefix.0))
            else {
                continue;
            };
            let (own, longest) = (i32::from(prefix.prefix_len()), i32::from(prefix.max_prefix_len()));
            let ge = rule.ge.unwrap_or(own);
            let le = rule.le.unwrap_or_else(|| if rule.ge.is_some() { longest } else { own });
            if !(own <= ge && ge <= le && le <= longest) {
                let allowed = format!("must hold {own} <= ge <= le <= {longest} for {prefix}");
                findings.refuse(field, format!("ge {ge}, le {le}"), allowed);
                continue;
            }
            // Both were just seen to lie between the prefix's length and 128.
            accept.push(PrefixRule { prefix, ge: ge as u8, le: le as u8 });
        }
        let allow_own_asn = raw.allow_own_asn.unwrap_or_default();
        let checked = u8::try_from(allow_own_asn).ok().filter(|count| *count <= 10);
        if checked.is_none() {
            findings.refuse("spec.import.allowOwnASN", allow_own_asn, "must be from 0 to 10");
        }
        let refuse = raw.refuse.iter().copied().collect();
        Self {
            accept,
            max_prefixes: limit("spec.import", Limit::of(raw), findings),
            allow_own_asn: checked.unwrap_or_default(),
            refuse,
            aigp: raw.aigp,
        }
    }
}

/// Without a time a session that was closed for its prefixes comes back by itself: it carries our routes, too, and a router that
/// leaked a table for a moment must not keep a node's addresses off the network until a person comes.
const DEFAULT_RESTART_SECONDS: i32 = 300;

/// The fields of a limit, of whatever object.
pub(super) struct Limit {
    pub(super) max_prefixes: Option<i32>,
    pub(super) warn_at_percent: Option<i32>,
    pub(super) on_excess: Option<OnExcess>,
    pub(super) restart_seconds: Option<i32>,
}

impl Limit {
    const fn of(raw: &kinds::Import) -> Self {
        let kinds::Import { max_prefixes, warn_at_percent, on_excess, restart_seconds, .. } = *raw;
        Self { max_prefixes, warn_at_percent, on_excess, restart_seconds }
    }
}

/// `at`: the part of the object that has the fields.
pub(super) fn limit(at: &str, raw: Limit, findings: &mut Findings) -> Option<MaxPrefixes> {
    let restart_is_idle = raw.on_excess == Some(OnExcess::Drop) && raw.restart_seconds.is_some();
    if let Some(given) = raw.restart_seconds.filter(|_| restart_is_idle) {
        findings.refuse(format!("{at}.restartSeconds"), given, "is for onExcess: Close");
    }
    let Some(limit) = raw.max_prefixes else {
        if raw.warn_at_percent.is_some() || raw.on_excess.is_some() || raw.restart_seconds.is_some() {
            let allowed = "must be given with warnAtPercent, onExcess or restartSeconds";
            findings.refuse(format!("{at}.maxPrefixes"), "", allowed);
        }
        return None;
    };
    let checked_limit = u32::try_from(limit).ok().filter(|limit| (1..=100_000_000).contains(limit));
    if checked_limit.is_none() {
        findings.refuse(format!("{at}.maxPrefixes"), limit, "must be from 1 to 100000000");
    }
    let warn_at = raw.warn_at_percent.unwrap_or(75);
    let checked_warn_at = u8::try_from(warn_at).ok().filter(|percent| (1..=100).contains(percent));
    if checked_warn_at.is_none() {
        findings.refuse(format!("{at}.warnAtPercent"), warn_at, "must be from 1 to 100");
    }
    let restart = raw.restart_seconds.unwrap_or(DEFAULT_RESTART_SECONDS);
    let checked_restart = u64::try_from(restart).ok().filter(|seconds| *seconds <= 604_800);
    if checked_restart.is_none() {
        findings.refuse(format!("{at}.restartSeconds"), restart, "must be from 0 to 604800");
    }
    let excess = match raw.on_excess {
        None | Some(OnExcess::Close) => {
            Excess::Close { restart: checked_restart.filter(|seconds| *seconds > 0).map(Duration::from_secs) }
        }
        Some(OnExcess::Drop) => Excess::Drop,
    };
    Some(MaxPrefixes { limit: checked_limit?, warn_at: checked_warn_at?, excess })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checked::ObjectRef;

    fn import(spec: &str) -> Result<Import, Vec<String>> {
        let mut findings = Findings::new(ObjectRef::cluster("BGPPeer", "tor"));
        let import = Import::check(Some(&serde_json::from_str(spec).unwrap()), &mut findings);
        findings.conclude(Some(import)).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_limit_alone_closes_for_five_minutes_and_warns_at_three_quarters() {
        let close = |seconds: Option<u64>| Excess::Close { restart: seconds.map(Duration::from_secs) };
        let cases = [
            (r#"{}"#, None),
            (r#"{"maxPrefixes":10}"#, Some((10, 75, close(Some(300))))),
            (r#"{"maxPrefixes":10,"restartSeconds":0}"#, Some((10, 75, close(None)))),
            (r#"{"maxPrefixes":10,"onExcess":"Close","restartSeconds":60}"#, Some((10, 75, close(Some(60))))),
            (r#"{"maxPrefixes":10,"onExcess":"Drop","warnAtPercent":100}"#, Some((10, 100, Excess::Drop))),
        ];
        for (spec, expected) in cases {
            let max_prefixes = import(spec).unwrap().max_prefixes;
            assert_eq!(max_prefixes.map(|max| (max.limit, max.warn_at, max.excess)), expected, "{spec}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_what_is_allowed() {
        let cases = [
            (r#"{"accept":[{"prefix":"10.0.0.0/8","le":4}]}"#, "must hold 8 <= ge <= le <= 32"),
            (r#"{"maxPrefixes":0}"#, "spec.import.maxPrefixes: \"0\": must be from 1 to 100000000"),
            (r#"{"onExcess":"Drop"}"#, "spec.import.maxPrefixes: \"\": must be given with warnAtPercent, onExcess or"),
            (r#"{"maxPrefixes":1,"warnAtPercent":0}"#, "spec.import.warnAtPercent: \"0\": must be from 1 to 100"),
            (r#"{"maxPrefixes":1,"restartSeconds":-1}"#, "spec.import.restartSeconds: \"-1\": must be from 0"),
            (r#"{"maxPrefixes":1,"onExcess":"Drop","restartSeconds":1}"#, "is for onExcess: Close"),
            (r#"{"allowOwnASN":11}"#, "spec.import.allowOwnASN: \"11\": must be from 0 to 10"),
        ];
        for (spec, expected) in cases {
            let found = import(spec).expect_err(spec);
            assert!(found.len() == 1 && found[0].contains(expected), "{spec}: {found:?}");
        }
    }
}

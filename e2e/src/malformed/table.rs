//! The table in `docs/malformed.md`: written by the run, read by people.
//!
//! What is compared with the committed file are the cases and our own column: both are ours to promise. What the others do
//! changes with their packages and is none of our failures; a run says where it differs, and `ROADSTEAD_WRITE_DOCS` in the
//! environment has it written anew.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::cases::{Case, Moment, Outcome};
use super::{Seen, Verdicts};
use crate::scene::Scene;

const WRITE: &str = "ROADSTEAD_WRITE_DOCS";

/// Columns that are compared: message, session, source, Roadstead.
const OURS: usize = 4;

/// A row for each case, a column for each router.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    /// For each of the others, how many cases end as they do by us.
    agreeing: Vec<String>,
    cases: Vec<Case>,
    committed: String,
}

impl Table {
    pub(super) fn new(cases: &[Case], ours: &[Outcome]) -> Result<Self> {
        let row = |(case, outcome): (&Case, &Outcome)| {
            vec![case.name.clone(), session(case), case.source.to_owned(), outcome.in_words()]
        };
        // There is none before the first run that writes it.
        let committed = fs::read_to_string(path()).unwrap_or_default();
        Ok(Self {
            head: ["message", "session", "source", "Roadstead"].map(str::to_owned).to_vec(),
            rows: cases.iter().zip(ours).map(row).collect(),
            agreeing: Vec::new(),
            cases: cases.to_vec(),
            committed,
        })
    }

    /// Whether the committed table says that this case ends this router.
    pub(super) fn has_crashed(&self, label: &str, case: &Case) -> bool {
        let rows = cells(&self.committed);
        let column = rows.first().and_then(|head| head.iter().position(|name| name.to_lowercase().starts_with(label)));
        let Some(column) = column else { return false };
        let row = rows.iter().find(|row| row[..2] == [case.name.clone(), session(case)]);
        row.and_then(|row| row.get(column)).is_some_and(|cell| cell == "crash")
    }

    pub(super) fn add(&mut self, name: &str, verdicts: &Verdicts) {
        self.head.push(name.to_owned());
        let mut same = 0;
        for (row, case) in self.rows.iter_mut().zip(&self.cases) {
            let seen = verdicts.get(&(case.name.clone(), case.session)).copied();
            row.push(seen.map_or_else(String::new, Seen::in_words));
            same += usize::from(seen.is_some_and(|seen| seen.is(case.outcome, case.attribute)));
        }
        self.agreeing.push(format!("{name} with {same}"));
    }

    /// Compares with the committed file, or writes it.
    pub fn check(&self, scene: &Scene) -> Result<()> {
        let text = self.markdown()?;
        if std::env::var_os(WRITE).is_some() {
            return fs::write(path(), text).with_context(|| format!("cannot write {}", path().display()));
        }
        let (committed, now) = (cells(&self.committed), cells(&text));
        let ours = |rows: &[Vec<String>]| {
            rows.iter().map(|row| row.iter().take(OURS).cloned().collect()).collect::<Vec<Vec<_>>>()
        };
        let differs = ours(&committed).into_iter().zip(ours(&now)).find(|(committed, now)| committed != now);
        ensure!(
            differs.is_none() && committed.len() == now.len(),
            "docs/malformed.md is not what this run saw, first at {differs:?}; {} rows there, {} now; run again with {WRITE}=1 \
             in the environment to have it written",
            committed.len(),
            now.len()
        );
        for (committed, now) in committed.iter().zip(&now).filter(|(committed, now)| committed != now) {
            scene.step(&format!(
                "another router does something else than docs/malformed.md says: {committed:?}, now {now:?}"
            ));
        }
        Ok(())
    }

    fn markdown(&self) -> Result<String> {
        let mut text = String::from(INTRODUCTION);
        writeln!(
            text,
            "\nOf {} messages, the others do as Roadstead does: {}.\n",
            self.rows.len(),
            self.agreeing.join(", ")
        )?;
        writeln!(text, "| {} |", self.head.join(" | "))?;
        writeln!(text, "|{}", "---|".repeat(self.head.len()))?;
        for row in &self.rows {
            writeln!(text, "| {} |", row.join(" | "))?;
        }
        Ok(text)
    }
}

impl Seen {
    /// Whether that is what is to be seen of this outcome.
    fn is(self, outcome: Outcome, attribute: Option<u8>) -> bool {
        match outcome {
            Outcome::Ok => matches!(self, Self::With | Self::Present | Self::Up),
            Outcome::Unread | Outcome::Discarded => match self {
                Self::Without | Self::Present => true,
                // Of an attribute that comes twice, the first stays.
                Self::With => attribute.is_none(),
                _ => false,
            },
            Outcome::Ignored => self == Self::Earlier,
            Outcome::Refused | Outcome::Withdrawn => self == Self::NoRoute,
            Outcome::Reset(code, subcode) => self == Self::Reset(code, subcode),
            Outcome::Closed => self == Self::Closed,
        }
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/malformed.md")
}

fn session(case: &Case) -> String {
    let moment = match case.moment {
        Moment::OpenSent | Moment::OpenConfirm => ", at its start",
        Moment::Established => "",
    };
    format!("{}{moment}", case.session.name())
}

fn cells(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

const INTRODUCTION: &str = "# Malformed messages: what becomes of each

This page is written by a test (`cargo xtask test malformed`), never by hand. Every message below was sent to Roadstead and to
four other routers, as Debian 12 packages them, by a scripted peer over TCP; what each did was read from the NOTIFICATION
that it sent and from its own `show` command.

Before each message the peer announces a route, and most messages announce it again with something wrong. Then there is

- `accepted`, `route`: the new route;
- `attribute discarded`, `attribute ignored`, `route without it`: the new route without the attribute in question; ignored is
  what a router does not have to read, discarded what is wrong (RFC 7606 section 2), and only the latter is counted;
- `treated as withdrawn` (malformed: RFC 7606 section 2), `route refused` (well-formed, and yet no route that can be used),
  `no route`: neither the new nor the earlier route;
- `ignored`, `earlier route`: the route as it was;
- `reset 3/1`: a NOTIFICATION with this code and subcode, and no session any more; `closed`: no session, without a word;
- `session up`: there is no route to look at, also when the hold timer ended the session later; `stuck`: there is one,
  and nothing that comes behind the message is taken any more; `crash`: the router ended, with all of its sessions.

An attribute that a router does not show is taken for accepted. `a limit of ours` is no RFC's: an AS_PATH of more than 750
numbers occurs by mistake or by malice.
";

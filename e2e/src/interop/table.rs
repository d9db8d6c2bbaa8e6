//! The table, and the file in which it is kept.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, iter};

use anyhow::{Context, Result, bail, ensure};

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    Frr,
    Bird,
    Gobgp,
    Openbgpd,
    Exabgp,
}

/// All of them, in the order of the columns.
pub const DAEMONS: [Daemon; 5] = [Daemon::Frr, Daemon::Bird, Daemon::Gobgp, Daemon::Openbgpd, Daemon::Exabgp];

impl Daemon {
    /// As its authors write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::Gobgp => "GoBGP",
            Self::Openbgpd => "OpenBGPD",
            Self::Exabgp => "ExaBGP",
        }
    }

    /// What tells it apart in addresses, names and ASNs.
    pub const fn number(self) -> u8 {
        match self {
            Self::Frr => 1,
            Self::Bird => 2,
            Self::Gobgp => 3,
            Self::Openbgpd => 4,
            Self::Exabgp => 5,
        }
    }

    /// Its AS.
    pub fn asn(self) -> u32 {
        64511 + u32::from(self.number())
    }

    /// The first word of what it says of its version that begins with a digit.
    fn version(self) -> Result<String> {
        let (program, argument) = match self {
            Self::Frr => ("/usr/lib/frr/bgpd", "--version"),
            Self::Bird => ("bird", "--version"),
            Self::Gobgp => ("gobgpd", "--version"),
            Self::Openbgpd => ("bgpd", "-V"),
            Self::Exabgp => ("exabgp", "--version"),
        };
        let output = Command::new(program).arg(argument).output().with_context(|| format!("cannot run {program}"))?;
        // Some of them say it on one of the outputs, some on the other.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let version = said.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Ok(version.with_context(|| format!("{program} says no version: {said}"))?.to_owned())
    }
}

/// One section of the table: what one test has seen.
pub struct Table {
    section: &'static str,
    rows: Vec<Row>,
    failures: Vec<String>,
}

struct Row {
    feature: String,
    direction: String,
    cells: [Option<String>; DAEMONS.len()],
}

/// With this variable in its environment a test writes its section instead of comparing it.
const WRITE: &str = "ROADSTEAD_INTEROP_WRITE";

impl Table {
    /// An empty one. `section` names its place in the file.
    pub fn new(section: &'static str) -> Self {
        Self { section, rows: Vec::new(), failures: Vec::new() }
    }

    /// Notes what was seen with one daemon. An error fails the test, after everything else has been seen.
    pub fn note(&mut self, feature: &str, direction: &str, daemon: Daemon, seen: Result<String>) {
        let cell = match seen {
            Ok(cell) => cell,
            Err(error) => {
                self.failures.push(format!("{feature}, {direction}, {}: {error:#}", daemon.name()));
                return;
            }
        };
        let here = |row: &&mut Row| row.feature == feature && row.direction == direction;
        let column = usize::from(daemon.number() - 1);
        match self.rows.iter_mut().find(here) {
            Some(row) => row.cells[column] = Some(cell),
            None => {
                let mut cells: [Option<String>; DAEMONS.len()] = Default::default();
                cells[column] = Some(cell);
                self.rows.push(Row { feature: feature.to_owned(), direction: direction.to_owned(), cells });
            }
        }
    }

    /// Compares with the file, or writes it.
    #[expect(clippy::print_stderr, reason = "what a test says goes to its standard error")]
    pub fn settle(self) -> Result<()> {
        eprintln!("{}", self.lines().join("\n"));
        ensure!(self.failures.is_empty(), "{} cells failed:\n{}", self.failures.len(), self.failures.join("\n"));
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (before, old, after) = self.split(&text)?;
        if std::env::var_os(WRITE).is_some() {
            let table = [vec![self.header()?], self.lines()].concat().join("\n");
            return fs::write(&path, format!("{before}{table}\n{after}")).context("cannot write docs/interop.md");
        }
        // The first two lines are the header, which has versions: another version that does the same is welcome.
        let expected: Vec<&str> = old.lines().skip(2).collect();
        let lines = self.lines();
        let news: Vec<String> = lines
            .iter()
            .filter(|line| !expected.contains(&line.as_str()))
            .map(|line| format!("seen, not in the file: {line}"))
            .chain(
                expected
                    .iter()
                    .filter(|line| !lines.iter().any(|seen| seen == *line))
                    .map(|line| format!("in the file, not seen: {line}")),
            )
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        bail!("docs/interop.md says otherwise (`cargo xtask interop` writes it anew):\n{}", news.join("\n"))
    }

    /// The file before, in and after this section.
    fn split<'a>(&self, text: &'a str) -> Result<(&'a str, &'a str, &'a str)> {
        let begin = format!("<!-- seen by the test {} -->\n", self.section);
        let start = text.find(&begin).with_context(|| format!("docs/interop.md has no line {begin}"))? + begin.len();
        let length = text[start..].find("<!-- end -->").context("a section of docs/interop.md does not end")?;
        Ok((&text[..start], &text[start..start + length], &text[start + length..]))
    }

    fn header(&self) -> Result<String> {
        let mut header = String::from("| | |");
        for daemon in DAEMONS {
            write!(header, " {} {} |", daemon.name(), daemon.version()?)?;
        }
        Ok(format!("{header}\n|---|---|{}", "---|".repeat(DAEMONS.len())))
    }

    fn lines(&self) -> Vec<String> {
        let line = |row: &Row| {
            let cells = row.cells.iter().map(|cell| cell.as_deref().unwrap_or("not tested"));
            let words = [row.feature.as_str(), row.direction.as_str()].into_iter().chain(cells);
            iter::once("|".to_owned()).chain(words.map(|word| format!(" {word} |"))).collect::<String>()
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_cell_for_every_daemon() {
        let mut table = Table::new("x");
        table.note("MD5", "we dial", Daemon::Gobgp, Ok("yes".to_owned()));
        table.note("MD5", "we dial", Daemon::Frr, Ok("no".to_owned()));
        table.note("MD5", "they dial", Daemon::Frr, Ok("yes".to_owned()));
        assert_eq!(
            table.lines(),
            [
                "| MD5 | we dial | no | not tested | yes | not tested | not tested |",
                "| MD5 | they dial | yes | not tested | not tested | not tested | not tested |"
            ]
        );
    }

    #[test]
    fn a_failure_is_no_cell() {
        let mut table = Table::new("x");
        table.note("MD5", "we dial", Daemon::Bird, Err(anyhow::anyhow!("down")));
        assert!(table.lines().is_empty());
        assert!(table.settle().unwrap_err().to_string().contains("MD5, we dial, BIRD: down"));
    }
}

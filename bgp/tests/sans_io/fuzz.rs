//! The fuzz targets of `bgp/fuzz`, on any compiler: their corpora replayed, and a bounded number of mutations from a seed.
//!
//! A corpus holds one input for each thing that was ever seen to happen, each outcome in other words, and what libFuzzer has found to take
//! another way through the code. To let it grow, run
//! this with `ROADSTEAD_FUZZ_ROUNDS` in the environment (some hundred thousand take a minute or two): what is new is written
//! beside the rest, to be committed. libFuzzer uses and extends the same directories (`bgp/fuzz/README.md`), by coverage.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::cases::{self, Moment};

#[path = "../../fuzz/targets.rs"]
mod targets;

use targets::Verdict;

type Target = fn(&[u8]) -> Verdict;

/// Mutations without that variable: a second or two of a debug build.
const ROUNDS: u64 = 2_000;
/// Longer inputs show nothing that these do not; the cases have some.
const LONGEST: usize = 4 * 1024;
const WIDER: &str = "ROADSTEAD_FUZZ_ROUNDS";

/// Says what was being tried when something panics.
struct Trying<'a>(&'static str, &'a [u8]);

impl Drop for Trying<'_> {
    #[expect(clippy::print_stderr, reason = "what a test says goes to its standard error")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let digits: String = self.1.iter().map(|octet| format!("{octet:02x}")).collect();
            eprintln!("target {} with {digits}", self.0);
        }
    }
}

fn run(name: &'static str, target: Target, data: &[u8]) -> Verdict {
    let _trying = Trying(name, data);
    target(data)
}

#[track_caller]
fn check(name: &'static str, target: Target, seeds: Vec<Vec<u8>>) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut corpus: Vec<Vec<u8>> = fs::read_dir(&directory)
        .map(|entries| entries.flatten().map(|entry| fs::read(entry.path()).unwrap()).collect())
        .unwrap_or_default();
    // Whatever order the directory has, the mutations are the same.
    corpus.sort();
    let mut seen: BTreeSet<Verdict> = corpus.iter().map(|data| run(name, target, data)).collect();
    let wider = std::env::var(WIDER).ok().and_then(|rounds| rounds.parse().ok());
    assert!(wider.is_some() || !corpus.is_empty(), "no corpus in {}", directory.display());
    let mut random = Random(0x5eed);
    let tries = seeds.into_iter().map(Some).chain((0..wider.unwrap_or(ROUNDS)).map(|_| None));
    for seed in tries {
        let mut data = seed.unwrap_or_else(|| random.mutation(&corpus));
        data.truncate(LONGEST);
        if seen.insert(run(name, target, &data)) && wider.is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(format!("{:016x}", hash(&data))), &data).unwrap();
            corpus.push(data);
        }
    }
}

/// FNV-1a: a name that tells inputs apart.
fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % bound.max(1)
    }

    /// One of the corpus with one to four things done to it.
    fn mutation(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut data = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(data.len() + 1);
            match self.below(7) {
                0 => data.insert(at, self.below(256) as u8),
                1 if at < data.len() => drop(data.remove(at)),
                2 if at < data.len() => data[at] ^= 1 << self.below(8),
                3 if at < data.len() => data[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                4 if at < data.len() => data[at] = data[at].wrapping_add(1 + 254 * self.below(2) as u8),
                5 => data.truncate(at),
                _ => {
                    let other = &corpus[self.below(corpus.len())];
                    let (from, length) = (self.below(other.len()), self.below(24));
                    let piece: Vec<u8> = other.iter().skip(from).take(length).copied().collect();
                    data.splice(at..at, piece);
                }
            }
        }
        data
    }
}

/// The messages of a type among the cases, as the targets take them: an octet that chooses the session, then the body.
fn bodies(kind: u8) -> Vec<Vec<u8>> {
    let cases = cases::all();
    let of_kind = cases.iter().filter(|case| case.bytes[18] == kind && case.bytes[..16] == [0xff; 16]);
    let chosen = |session| match session {
        cases::Session::External => 0,
        cases::Session::Internal => 1,
        cases::Session::TwoOctet => 2,
        cases::Session::Extended => 4,
    };
    // Each on a session of its own, and on one from which routes are passed on.
    let with = |relays: u8| move |case: &&cases::Case| [&[chosen(case.session) | relays], &case.bytes[19..]].concat();
    let of_kind: Vec<_> = of_kind.collect();
    of_kind
        .iter()
        .copied()
        .map(|case| with(0)(&case))
        .chain(of_kind.iter().copied().map(|case| with(8)(&case)))
        .collect()
}

#[test]
fn updates() {
    check("update", targets::update, bodies(2));
}

#[test]
fn opens() {
    check("open", targets::open, bodies(1));
}

#[test]
fn streams() {
    let cases = cases::all();
    let established = cases.iter().filter(|case| case.moment == Moment::Established);
    check("stream", targets::stream, established.map(|case| [&[24], &case.bytes[..]].concat()).collect());
}

#[test]
fn sessions() {
    // Up, told a route, and then each of the things that can happen.
    let seeds = (0..12).map(|what| vec![0, 0, 2, 0, 3, 0, 4, 7, 9, 2, what, 1, 8, 200, 8, 200, 0, 0, 2, 0]);
    check("session", targets::session, seeds.collect());
}

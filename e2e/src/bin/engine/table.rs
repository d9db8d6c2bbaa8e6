//! The figures of one load, device by device, their ratios, and whether ours are within their budgets.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::budget::{self, Share, Verdict};
use crate::device::Device;
use crate::load::Name;

/// What one turn of one device came to.
pub(crate) struct Measured {
    pub(crate) announce: Phase,
    pub(crate) withdraw: Phase,
    /// KiB.
    pub(crate) memory: u64,
    /// From feeder to monitor, of each single prefix.
    pub(crate) one_prefix: Vec<Duration>,
    /// The part of one core that was taken with nothing to do.
    pub(crate) idle: Option<f64>,
}

/// One way through the device.
#[derive(Clone, Copy)]
pub(crate) struct Phase {
    /// From the first byte sent to the last prefix received.
    pub(crate) elapsed: Duration,
    /// Of all the device's threads.
    pub(crate) processor: Duration,
}

/// The medians of one device, in milliseconds and MiB.
#[derive(Clone, Copy)]
struct Row {
    announce: Times,
    withdraw: Times,
    memory: f64,
}

#[derive(Clone, Copy)]
struct Times {
    elapsed: f64,
    processor: f64,
}

/// One line for each device.
pub(crate) fn print(name: Name, quick: bool, measured: &BTreeMap<Device, Vec<Measured>>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let runs = measured.values().map(Vec::len).max().unwrap_or_default();
    let size = if quick { ", a tenth of it" } else { "" };
    writeln!(out, "{}{size}; median of {runs}", name.title())?;
    writeln!(
        out,
        "  {:<10} {:>12} {:>10} {:>20} {:>10}   {:>12} {:>10} {:>20} {:>10}   {:>11} {:>20}",
        "",
        "announce",
        "- floor",
        "/ BIRD",
        "processor",
        "withdraw",
        "- floor",
        "/ BIRD",
        "processor",
        "peak memory",
        "/ BIRD"
    )?;
    let rows: BTreeMap<Device, Row> = measured.iter().map(|(device, turns)| (*device, Row::of(turns))).collect();
    let floor = rows.get(&Device::Floor).copied().context("the floor was not measured")?;
    let bird = rows.get(&Device::Bird);
    let budget = budget::of(name);
    for (device, row) in &rows {
        // The floor is what is taken off, and keeps no table.
        let ratio = |part: &dyn Fn(&Row) -> f64, most: f64| match bird {
            Some(bird) if *device != Device::Floor => {
                let measured = part(row) / part(bird);
                let verdict = Some(Verdict { measured, most }).filter(|_| *device == Device::Roadstead);
                format!("{measured:.2} {:<13}", verdict.map(|verdict| verdict.to_string()).unwrap_or_default())
            }
            _ => String::new(),
        };
        let phase = |of: fn(&Row) -> Times, share: Share| {
            let above = |row: &Row| of(row).elapsed - of(&floor).elapsed;
            let compared = match share {
                Share::AboveFloor(most) => ratio(&above, most),
                Share::Whole(most) => ratio(&|row| of(row).elapsed, most),
            };
            format!("{:>9.1} ms {:>7.1} ms {:>20} {:>7.1} ms", of(row).elapsed, above(row), compared, of(row).processor)
        };
        writeln!(
            out,
            "  {:<10} {}   {}   {:>7.1} MiB {:>20}",
            device.name(),
            phase(|row| row.announce, budget.announce),
            phase(|row| row.withdraw, budget.withdraw),
            row.memory,
            ratio(&|row| row.memory, budget.memory),
        )?;
    }
    for (device, turns) in measured {
        let single: Vec<Duration> = turns.iter().flat_map(|turn| turn.one_prefix.iter().copied()).collect();
        if !single.is_empty() {
            let count = single.len();
            let at = |percent| milliseconds(percentile(single.iter().copied(), percent));
            let (middle, high) = (at(50), at(99));
            let most = milliseconds(Some(budget::ONE_PREFIX));
            let verdict = ours(*device, Verdict { measured: high, most });
            writeln!(
                out,
                "  {:<10} one prefix alone: p50 {middle:.3} ms, p99 {high:.3} ms of {count}{verdict}",
                device.name()
            )?;
        }
        let idle: Vec<f64> = turns.iter().filter_map(|turn| turn.idle).collect();
        if !idle.is_empty() {
            let share = idle.iter().sum::<f64>() / idle.len() as f64 * 100.0;
            let verdict = ours(*device, Verdict { measured: share, most: budget::IDLE * 100.0 });
            writeln!(out, "  {:<10} with nothing to do: {share:.2} % of one core{verdict}", device.name())?;
        }
    }
    writeln!(out)?;
    Ok(())
}

/// Only we have budgets.
fn ours(device: Device, verdict: Verdict) -> String {
    if device == Device::Roadstead { format!(" (at most {}: {verdict})", verdict.most) } else { String::new() }
}

impl Row {
    fn of(turns: &[Measured]) -> Self {
        let memory = percentile(turns.iter().map(|turn| turn.memory), 50).unwrap_or_default();
        Self {
            announce: Times::of(turns, |turn| turn.announce),
            withdraw: Times::of(turns, |turn| turn.withdraw),
            memory: memory as f64 / 1024.0,
        }
    }
}

impl Times {
    fn of(turns: &[Measured], phase: fn(&Measured) -> Phase) -> Self {
        Self {
            elapsed: milliseconds(percentile(turns.iter().map(|turn| phase(turn).elapsed), 50)),
            processor: milliseconds(percentile(turns.iter().map(|turn| phase(turn).processor), 50)),
        }
    }
}

fn milliseconds(duration: Option<Duration>) -> f64 {
    duration.unwrap_or_default().as_secs_f64() * 1000.0
}

/// The smallest of the values that at least `percent` of them do not exceed.
fn percentile<T: Ord>(values: impl Iterator<Item = T>, percent: usize) -> Option<T> {
    let mut sorted: Vec<T> = values.collect();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.into_iter().nth(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        for (percent, expected) in [(50, 100), (99, 198), (100, 200), (1, 2)] {
            assert_eq!(percentile((1..=200).rev(), percent), Some(expected), "p{percent}");
        }
        assert_eq!(percentile(std::iter::empty::<u8>(), 50), None);
        assert_eq!(percentile([30, 10, 20].into_iter(), 50), Some(20));
    }
}

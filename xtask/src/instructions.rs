//! `cargo xtask bench instructions`: what the engine executes for its commonest work, beside what it executed when the baseline was
//! written.
//!
//! Counts by callgrind and not times, because a count is the same on a machine that is busy with other things: a regression
//! shows there too. What changes them besides our code: the compiler (pinned by `rust-toolchain.toml`), dependencies (pinned by
//! `Cargo.lock`), and to a far smaller part the processor, whose copying routines the C library chooses. Whoever changes
//! one of the first two writes the baseline anew in the same commit.
//!
//! Callgrind by itself and not through a crate: such a crate needs a program of exactly its own version beside it, and keeps
//! its baseline in `target`, where no review sees it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::prerequisites;
use crate::step::{self, cargo};

/// The work of the BGP engine, counted in instructions under valgrind, beside the committed baseline.
///
/// Fails when a count is more than the tolerance away from it, in either direction: what has become cheaper is to be held too.
/// Accept what you meant with --save, and commit bgp/benches/instructions/baseline.tsv with the reason. Times are not looked
/// at, so it runs as well on a busy machine.
#[derive(Args)]
pub(crate) struct InstructionsFlags {
    /// Only these scenes [default: all; they stand in the baseline].
    scene: Vec<String>,
    /// Write what is counted into the baseline, and fail for nothing.
    #[arg(long)]
    save: bool,
    /// How far from the baseline a count may be, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = TOLERANCE)]
    tolerance: f64,
}

impl Default for InstructionsFlags {
    fn default() -> Self {
        Self { scene: Vec::new(), save: false, tolerance: TOLERANCE }
    }
}

/// Percent.
const TOLERANCE: f64 = 3.0;
/// Found by this part of its name, mangled or not.
const COUNTED_FUNCTION: &str = "--toggle-collect=*instructions*measured*";

pub(crate) fn run(flags: &InstructionsFlags) -> Result<()> {
    prerequisites::ensure_valgrind()?;
    let build = ["bench", "--package", "roadstead-bgp", "--bench", "instructions", "--no-run"];
    step::run("instructions build", step::nothing, &mut cargo(&build))?;
    let baseline = read(&baseline_file())?;
    let all = scenes()?;
    if let Some(unknown) = flags.scene.iter().find(|scene| !all.contains(scene)) {
        bail!("no scene {unknown}; there are {}", all.join(", "));
    }
    let mut counts = if flags.save { baseline.clone() } else { BTreeMap::new() };
    counts.retain(|scene, _| all.contains(scene));
    step::say(&format!("        {:<20} {:>14} {:>14} {:>8}", "", "instructions", "baseline", "ratio"));
    let mut apart = Vec::new();
    for scene in all.iter().filter(|scene| flags.scene.is_empty() || flags.scene.contains(scene)) {
        let count = count(scene)?;
        let before = baseline.get(scene).copied();
        let ratio = before.map(|before| count as f64 / before as f64);
        let [before, shown] = [before.map(|before| before.to_string()), ratio.map(|ratio| format!("{ratio:.3}"))]
            .map(|figure| figure.unwrap_or_else(|| "-".to_owned()));
        let outside = ratio.is_none_or(|ratio| (ratio - 1.0).abs() * 100.0 > flags.tolerance);
        step::say(&format!(
            "        {scene:<20} {count:>14} {before:>14} {shown:>8}{}",
            if outside { "  <--" } else { "" }
        ));
        if outside {
            apart.push(scene.clone());
        }
        counts.insert(scene.clone(), count);
    }
    if flags.save {
        return write(&baseline_file(), &counts);
    }
    ensure!(
        apart.is_empty(),
        "more than {} % from the baseline, or not in it: {}; `cargo xtask bench instructions --save` accepts the counts, \
         `callgrind_annotate {}` says where they come from",
        flags.tolerance,
        apart.join(", "),
        profile("SCENE").display()
    );
    Ok(())
}

/// What the program says of itself.
fn scenes() -> Result<Vec<String>> {
    let output = cargo(&["bench", "--quiet", "--package", "roadstead-bgp", "--bench", "instructions"])
        .current_dir(crate::workspace())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "the scenes cannot be listed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Runs a scene under callgrind. The number of instructions of its measured part.
fn count(scene: &str) -> Result<u64> {
    let profile = profile(scene);
    if let Some(directory) = profile.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    // cargo knows where the program is, and starts it by way of a runner.
    let runner = format!(
        "target.'cfg(all())'.runner=['valgrind', '--quiet', '--tool=callgrind', '{COUNTED_FUNCTION}', \
         '--callgrind-out-file={}']",
        profile.display()
    );
    let arguments =
        ["--config", &runner, "bench", "--quiet", "--package", "roadstead-bgp", "--bench", "instructions", "--", scene];
    let output = cargo(&arguments).current_dir(crate::workspace()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "scene {scene} failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&profile).with_context(|| format!("cannot read {}", profile.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    let count = total.and_then(|total| total.trim().parse().ok()).unwrap_or_default();
    ensure!(count > 0, "callgrind has counted nothing in scene {scene}: is the measured function inlined?");
    Ok(count)
}

fn profile(scene: &str) -> PathBuf {
    crate::target().join("xtask").join(format!("callgrind.{scene}.out"))
}

fn baseline_file() -> PathBuf {
    crate::workspace().join("bgp/benches/instructions/baseline.tsv")
}

fn read(file: &Path) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let entry = |line: &str| Some((line.split_once('\t')?.0.to_owned(), line.split_once('\t')?.1.parse().ok()?));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| entry(line).with_context(|| format!("not a scene and a count: {line:?}"))).collect()
}

fn write(file: &Path, counts: &BTreeMap<String, u64>) -> Result<()> {
    let mut text = "# Instructions of each scene; written by `cargo xtask bench instructions --save`.\n".to_owned();
    for (scene, count) in counts {
        writeln!(text, "{scene}\t{count}").context("a string takes what is written to it")?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

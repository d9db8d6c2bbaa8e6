//! Removing what a scene made: by its name prefix, so that the next run can do it for one that was killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::run::run;
use crate::wait::wait_until;

/// Every name that the harness gives to something the whole machine can see starts with it; the owner's process id
/// follows.
pub(crate) const PREFIX: &str = "rs-";

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Removes, once per process, what killed runs left: everything whose owner is no longer alive.
///
/// An owner whose process id another program has by now keeps its leftovers until that program ends: they cost little,
/// and taking a living test's namespaces away would cost a day.
pub(crate) fn leftovers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut names = entries(Path::new(NAMESPACES));
        names.extend(entries(&std::env::temp_dir()));
        let ids: BTreeSet<String> = names.iter().filter_map(|name| dead_scene(name)).collect();
        for id in ids {
            remove(&id);
        }
    });
}

/// Removes processes, mounts, namespaces, cgroups and the directory of the scene `id`. What is not there is fine, and
/// what cannot be removed must not hide the test's own outcome, so nothing here fails.
pub fn remove(id: &str) {
    let directory = std::env::temp_dir().join(id);
    let namespaces: Vec<String> =
        entries(Path::new(NAMESPACES)).into_iter().filter(|name| belongs_to(name, id)).collect();
    end_processes(&directory, &namespaces, id);
    for mount in mounts_below(&directory) {
        let _ = run("umount", &format!("--lazy {}", mount.display()));
    }
    for namespace in &namespaces {
        let _ = run("ip", &format!("netns delete {namespace}"));
    }
    for cgroup in cgroups_of(id) {
        remove_cgroup(&cgroup);
    }
    let _ = fs::remove_dir_all(&directory);
}

/// The scene that made `name`, when its owner is dead.
fn dead_scene(name: &str) -> Option<String> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let (owner, number) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
    (!Path::new("/proc").join(owner.to_string()).exists()).then(|| format!("{PREFIX}{owner}-{number}"))
}

fn belongs_to(name: &str, id: &str) -> bool {
    name.strip_prefix(id).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Ends all processes in the namespaces, and those that name the directory in their arguments (a container's shim
/// outlives the containerd that started it, and lives in no namespace of ours), and those in the scene's cgroups (what
/// ran in the containers).
fn end_processes(directory: &Path, namespaces: &[String], id: &str) {
    let find = || {
        let mut found: BTreeSet<u32> = processes_naming(directory);
        for namespace in namespaces {
            let listed = run("ip", &format!("netns pids {namespace}")).unwrap_or_default();
            found.extend(listed.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        for cgroup in cgroups_of(id) {
            found.extend(processes_in(&cgroup));
        }
        found.remove(&std::process::id());
        found
    };
    // Asked again, because a shim that dies may leave its container's processes a moment longer.
    let _ = wait_until("the scene's processes to end", Duration::from_secs(10), || {
        let found = find();
        for pid in &found {
            let _ = run("kill", &format!("-KILL {pid}"));
        }
        ensure!(found.is_empty(), "still running: {found:?}");
        Ok(())
    });
}

fn processes_naming(directory: &Path) -> BTreeSet<u32> {
    let wanted = directory.to_string_lossy().into_owned();
    entries(Path::new("/proc"))
        .into_iter()
        .filter_map(|name| name.parse::<u32>().ok())
        .filter(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).split('\0').any(|argument| names_path(argument, &wanted))
        })
        .collect()
}

/// `/scratch/rs-1-1` in `--root-dir=/scratch/rs-1-1/kubelet`, but not in `/scratch/rs-1-12`.
fn names_path(argument: &str, path: &str) -> bool {
    argument.match_indices(path).any(|(at, _)| matches!(argument.as_bytes().get(at + path.len()), None | Some(b'/')))
}

/// The scene's cgroups: at the top in version 2, one in each hierarchy in version 1.
fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let root = PathBuf::from(CGROUPS);
    let hierarchies = entries(&root).into_iter().map(|name| root.join(name));
    let mut cgroups: Vec<PathBuf> = std::iter::once(root.clone())
        .chain(hierarchies)
        .flat_map(|parent| {
            entries(&parent).into_iter().filter(|name| belongs_to(name, id)).map(move |name| parent.join(name))
        })
        .collect();
    cgroups.sort();
    cgroups
}

fn processes_in(cgroup: &Path) -> BTreeSet<u32> {
    let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found: BTreeSet<u32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
    for child in entries(cgroup).into_iter().map(|name| cgroup.join(name)).filter(|child| child.is_dir()) {
        found.extend(processes_in(&child));
    }
    found
}

/// Deepest first, as they have to be unmounted.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(directory))
        .collect();
    mounts.sort();
    mounts.reverse();
    mounts
}

/// A cgroup is removed by removing its directories; its files are the kernel's and cannot be.
fn remove_cgroup(path: &Path) {
    for child in entries(path).into_iter().map(|name| path.join(name)).filter(|child| child.is_dir()) {
        remove_cgroup(&child);
    }
    // The kernel lets a cgroup go a moment after its last process.
    let _ = wait_until("the cgroup to be free", Duration::from_secs(2), || {
        fs::remove_dir(path).with_context(|| path.display().to_string())
    });
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_are_swept() {
        let me = std::process::id();
        // Larger than any process id that Linux gives.
        for (name, expected) in [
            ("rs-4194999-0", Some("rs-4194999-0")),
            ("rs-4194999-12-router", Some("rs-4194999-12")),
            (&format!("rs-{me}-0-router"), None),
            ("rs-manual", None),
            ("rs-", None),
            ("router", None),
        ] {
            assert_eq!(dead_scene(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_scene_owns_its_names_and_not_its_neighbours() {
        for (name, expected) in
            [("rs-7-1", true), ("rs-7-1-router", true), ("rs-7-12", false), ("rs-7-12-router", false)]
        {
            assert_eq!(belongs_to(name, "rs-7-1"), expected, "{name}");
        }
        for (argument, expected) in
            [("--root=/scratch/rs-7-1/kubelet", true), ("/scratch/rs-7-1", true), ("/scratch/rs-7-12/x", false)]
        {
            assert_eq!(names_path(argument, "/scratch/rs-7-1"), expected, "{argument}");
        }
    }
}

//! Kubernetes and helm for the end-to-end tests.
//!
//! `e2e/tools/*/go.mod` pins them as Go tools. A binary that the machine has already is used instead when its version
//! fits: first from `KUBEBUILDER_ASSETS`, then from `PATH`. What remains is built once into `target/tools/<version>/`,
//! and the tests find everything through links in `target/tools/bin/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::step;

/// A Go module that pins tools.
struct Module {
    /// Directory under `e2e/tools`.
    name: &'static str,
    /// The module whose version is the tools' version.
    module: &'static str,
    /// Where the tests find them, under `target/tools`.
    links: &'static str,
    /// The Go variable that tells a binary its version: without it kube-apiserver calls itself v0.0.0.
    version_variable: &'static str,
    binaries: &'static [Binary],
}

struct Binary {
    name: &'static str,
    package: &'static str,
    /// Arguments that make it print its version.
    version: &'static [&'static str],
    /// How many minor versions it may be away from the pinned one.
    skew: u32,
}

const fn kubernetes(name: &'static str, package: &'static str) -> Binary {
    Binary { name, package, version: &["--version"], skew: 0 }
}

/// These tell their version on standard error alone, so that none of the machine's own is ever taken.
const fn cni(name: &'static str, package: &'static str) -> Binary {
    Binary { name, package, version: &[], skew: 0 }
}

const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        module: "k8s.io/kubernetes",
        links: "bin",
        version_variable: "k8s.io/component-base/version.gitVersion",
        binaries: &[
            kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            // Kubernetes supports a kubectl within one minor version of the server.
            Binary {
                name: "kubectl",
                package: "k8s.io/kubernetes/cmd/kubectl",
                version: &["version", "--client"],
                skew: 1,
            },
        ],
    },
    Module {
        name: "helm",
        module: "helm.sh/helm/v3",
        links: "bin",
        version_variable: "helm.sh/helm/v3/internal/version.version",
        binaries: &[Binary { name: "helm", package: "helm.sh/helm/v3/cmd/helm", version: &["version"], skew: 5 }],
    },
    Module {
        name: "cni",
        module: "github.com/containernetworking/plugins",
        // Not among the others: their `bridge` is not iproute2's.
        links: "cni",
        version_variable: "github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion",
        binaries: &[
            cni("cnitool", "github.com/containernetworking/cni/cnitool"),
            cni("bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
            cni("ipvlan", "github.com/containernetworking/plugins/plugins/main/ipvlan"),
            cni("macvlan", "github.com/containernetworking/plugins/plugins/main/macvlan"),
            cni("ptp", "github.com/containernetworking/plugins/plugins/main/ptp"),
            cni("vlan", "github.com/containernetworking/plugins/plugins/main/vlan"),
        ],
    },
];

/// Where the tests find every tool that is not a plugin.
pub(crate) fn directory() -> PathBuf {
    crate::target().join("tools/bin")
}

/// Fails when something would have to be built and there is no Go.
pub(crate) fn possible() -> Result<()> {
    let go = Command::new("go").arg("version").output();
    let wanted: Vec<&str> = to_build()?.into_iter().map(|(_, binary)| binary.name).collect();
    ensure!(
        wanted.is_empty() || go.is_ok_and(|output| output.status.success()),
        "no `go` on PATH, and these have to be built with it: {} (install Go 1.26 from https://go.dev/dl, or point \
         KUBEBUILDER_ASSETS at binaries of the version in e2e/tools/kubernetes/go.mod)",
        wanted.join(" ")
    );
    Ok(())
}

/// Builds what nobody brings, and links everything into [`directory`].
pub(crate) fn ensure() -> Result<()> {
    for (module, binary) in to_build()? {
        build(module, binary)?;
    }
    for module in MODULES {
        let links = crate::target().join("tools").join(module.links);
        fs::create_dir_all(&links).with_context(|| format!("cannot create {}", links.display()))?;
        let version = pinned_version(module)?;
        for binary in module.binaries {
            let path = brought_along(module, binary)?.unwrap_or_else(|| built_path(module, binary, &version));
            let link = links.join(binary.name);
            if fs::read_link(&link).ok().as_ref() != Some(&path) {
                // A link that is not there yet is no error; any other reason shows in the next line.
                let _ = fs::remove_file(&link);
                std::os::unix::fs::symlink(&path, &link).with_context(|| format!("cannot link {}", link.display()))?;
            }
            step::say(&format!("        {} {}", binary.name, path.display()));
        }
    }
    step::say("    ok  Go tools");
    Ok(())
}

fn to_build() -> Result<Vec<(&'static Module, &'static Binary)>> {
    let mut wanted = Vec::new();
    for module in MODULES {
        let version = pinned_version(module)?;
        let sums = module_directory(module).join("go.sum");
        let sums = fs::read(&sums).with_context(|| format!("cannot read {}", sums.display()))?;
        for binary in module.binaries {
            let current = fs::read(stamp_path(module, binary, &version)).is_ok_and(|stamp| stamp == sums);
            let built = current && built_path(module, binary, &version).exists();
            if !built && brought_along(module, binary)?.is_none() {
                wanted.push((module, binary));
            }
        }
    }
    Ok(wanted)
}

fn build(module: &Module, binary: &Binary) -> Result<()> {
    let version = pinned_version(module)?;
    let output = built_path(module, binary, &version);
    let unfinished = output.with_extension("unfinished");
    let mut command = Command::new("go");
    // Go wants -C before all other flags.
    command
        .args(["build", "-C"])
        .arg(module_directory(module))
        .args(["-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(format!("-s -w -X {}={version}", module.version_variable))
        .arg("-o")
        .arg(&unfinished)
        .arg(binary.package)
        // No C compiler needed, and the result runs on any Linux.
        .env("CGO_ENABLED", "0");
    step::run(&format!("build {} {version}", binary.name), step::nothing, &mut command)?;
    fs::rename(&unfinished, &output).with_context(|| format!("cannot rename {}", unfinished.display()))?;
    let stamp = stamp_path(module, binary, &version);
    fs::copy(module_directory(module).join("go.sum"), &stamp)
        .with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(())
}

/// A binary of the machine's own whose version fits.
fn brought_along(module: &Module, binary: &Binary) -> Result<Option<PathBuf>> {
    let pinned = pinned_version(module)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let found = assets
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(binary.name))
        .find(|candidate| candidate.is_file() && fits(candidate, binary, &pinned));
    Ok(found)
}

fn fits(candidate: &Path, binary: &Binary, pinned: &str) -> bool {
    let Ok(output) = Command::new(candidate).args(binary.version).output() else { return false };
    let (Some(found), Some(pinned)) = (minor(&String::from_utf8_lossy(&output.stdout)), minor(pinned)) else {
        return false;
    };
    found.0 == pinned.0 && found.1.abs_diff(pinned.1) <= binary.skew
}

/// Major and minor of the first `v1.2…` in a text.
fn minor(text: &str) -> Option<(u32, u32)> {
    text.split('v').skip(1).find_map(|rest| {
        let mut parts = rest.split('.');
        let number = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
        Some((parts.next()?.parse().ok()?, number(parts.next()?)?))
    })
}

fn pinned_version(module: &Module) -> Result<String> {
    let path = module_directory(module).join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    required_version(&text, module.module)
        .with_context(|| format!("{} does not require {}", path.display(), module.module))
}

fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().strip_prefix("require ").unwrap_or(line).split_whitespace();
        (words.next()? == module).then_some(())?;
        words.next().filter(|word| word.starts_with('v')).map(str::to_owned)
    })
}

fn module_directory(module: &Module) -> PathBuf {
    crate::workspace().join("e2e/tools").join(module.name)
}

fn version_directory(module: &Module, version: &str) -> PathBuf {
    crate::target().join("tools").join(format!("{}-{version}", module.name))
}

fn built_path(module: &Module, binary: &Binary, version: &str) -> PathBuf {
    version_directory(module, version).join(binary.name)
}

/// Says for which go.sum a binary was built.
fn stamp_path(module: &Module, binary: &Binary, version: &str) -> PathBuf {
    version_directory(module, version).join(format!("{}.go.sum", binary.name))
}

#[cfg(test)]
mod tests {
    use super::{minor, required_version};

    #[test]
    fn versions_as_programs_print_them() {
        for (printed, expected) in [
            ("Kubernetes v1.34.2\n", Some((1, 34))),
            ("Client Version: v1.33.0\nKustomize Version: v5.6.0\n", Some((1, 33))),
            ("version.BuildInfo{Version:\"v3.22.0\", GitCommit:\"\"}", Some((3, 22))),
            ("v2-alpha", None),
            ("command not found", None),
        ] {
            assert_eq!(minor(printed), expected, "{printed}");
        }
    }

    #[test]
    fn the_pinned_version_is_the_required_one() {
        let go_mod =
            "replace (\n\tk8s.io/api => k8s.io/api v0.34.2\n)\nrequire (\n\tk8s.io/kubernetes v1.34.2 // indirect\n)\n";
        assert_eq!(required_version(go_mod, "k8s.io/kubernetes").as_deref(), Some("v1.34.2"));
        assert_eq!(required_version(go_mod, "k8s.io/api"), None);
        assert_eq!(required_version("require a.b/c v1.0.0\n", "a.b/c").as_deref(), Some("v1.0.0"));
    }
}

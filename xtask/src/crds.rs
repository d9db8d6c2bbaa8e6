//! The chart's CRDs are generated: the Rust types say what an object is, and nobody edits the YAML.
//!
//! They are templates, so that an upgrade of the chart updates them, and helm keeps them when it is uninstalled: with a definition
//! go all objects of its kind.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::step::{self, cargo};

/// `cargo xtask crds`: one file for each kind.
pub(crate) fn write() -> Result<()> {
    let directory = directory();
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let wanted = generated()?;
    for name in present()?.keys().filter(|name| !wanted.contains_key(*name)) {
        std::fs::remove_file(directory.join(name)).with_context(|| format!("cannot remove {name}"))?;
    }
    for (name, text) in &wanted {
        std::fs::write(directory.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    step::say(&format!("wrote {} files to {}", wanted.len(), directory.display()));
    Ok(())
}

/// Fails when the chart's CRDs are not the generated ones.
pub(crate) fn check() -> Result<()> {
    step::check("generated CRDs", || {
        let (present, wanted) = (present()?, generated()?);
        let stale: Vec<&String> = wanted
            .keys()
            .chain(present.keys().filter(|name| !wanted.contains_key(*name)))
            .filter(|name| present.get(*name) != wanted.get(*name))
            .collect();
        ensure!(
            stale.is_empty(),
            "charts/roadstead/templates/crds differs from what the types say in {stale:?}: run `cargo xtask crds` and commit it"
        );
        Ok(())
    })
}

fn directory() -> PathBuf {
    crate::workspace().join("charts/roadstead/templates/crds")
}

fn present() -> Result<BTreeMap<String, String>> {
    let directory = directory();
    if !directory.exists() {
        return Ok(BTreeMap::new());
    }
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", directory.display()))?.path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.insert(name, text);
    }
    Ok(files)
}

fn generated() -> Result<BTreeMap<String, String>> {
    let output = cargo(&["run", "--quiet", "--package", "roadstead", "--bin", "roadstead", "--", "crds"])
        .current_dir(crate::workspace())
        .output()
        .context("cannot run `roadstead crds`")?;
    if !output.status.success() {
        bail!("`roadstead crds` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let files = split(&String::from_utf8_lossy(&output.stdout))?;
    ensure!(!files.is_empty(), "`roadstead crds` printed nothing");
    Ok(files)
}

/// One file for each document, named by the plural of its kind: `addresspools.yaml`.
fn split(stream: &str) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let separated = format!("\n{stream}");
    for document in separated.split("\n---").map(|document| document.trim_matches('\n')) {
        if document.is_empty() {
            continue;
        }
        let name = document
            .lines()
            .find_map(|line| line.strip_prefix("  name: ")?.strip_suffix(".roadstead.dev"))
            .with_context(|| format!("no metadata.name ends in .roadstead.dev in: {document}"))?;
        files.insert(format!("{name}.yaml"), template(document)?);
    }
    Ok(files)
}

/// A document as a part of the chart.
fn template(document: &str) -> Result<String> {
    ensure!(!document.contains("{{"), "helm would take a part of it for a template: {document}");
    let kept = document.replacen("metadata:\n", "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n", 1);
    Ok(format!("{{{{- if .Values.crds.install }}}}\n{kept}\n{{{{- end }}}}\n"))
}

#[cfg(test)]
mod tests {
    use super::{split, template};

    #[track_caller]
    fn check(stream: &str, expected: &[(&str, &str)]) {
        let files = split(stream).unwrap();
        let expected = expected.iter().map(|(name, text)| ((*name).to_owned(), template(text.trim_end()).unwrap()));
        assert_eq!(files, expected.collect());
    }

    #[test]
    fn one_file_for_each_document() {
        let (a, b) = ("metadata:\n  name: as.roadstead.dev\n", "metadata:\n  name: bs.roadstead.dev\n");
        check("", &[]);
        check(a, &[("as.yaml", a)]);
        check(&format!("---\n{a}"), &[("as.yaml", a)]);
        check(&format!("{a}---\n{b}"), &[("as.yaml", a), ("bs.yaml", b)]);
        check(&format!("---\n{b}---\n{a}---\n"), &[("as.yaml", a), ("bs.yaml", b)]);
    }

    #[test]
    fn helm_keeps_what_it_installed() {
        let expected = "{{- if .Values.crds.install }}\nmetadata:\n  annotations:\n    helm.sh/resource-policy: keep\n  name: a\n{{- end }}\n";
        assert_eq!(template("metadata:\n  name: a").unwrap(), expected);
        assert!(template("description: '{{'").is_err());
    }

    #[test]
    fn a_document_without_a_name_is_an_error() {
        assert!(split("kind: Something\n").unwrap_err().to_string().contains("kind: Something"));
    }
}

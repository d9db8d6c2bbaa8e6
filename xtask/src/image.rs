//! `cargo xtask image`: our binaries, linked statically, as an OCI image with nothing else in it.
//!
//! No shell, no libraries, no user database. Files and layers have fixed times, owners and order, so that the same binaries make
//! the same image. Paths of the building machine stay out of the binaries, or their bytes would tell where they were built.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::step::{self, cargo};

/// In the image below /bin, in the order of their names.
const BINARIES: &[&str] = &["roadstead", "roadstead-cni", "roadstead-controller", "roadstead-speaker"];
/// The plugin is copied to the node, and started for each interface of each pod there.
const PLUGIN: &str = "roadstead-cni";
/// The most that the plugin may weigh, in octets.
const PLUGIN_LIMIT: u64 = 3 << 20;

/// Builds the binaries and writes the image.
pub(crate) fn write(name: &str, dev: bool, to: Option<PathBuf>) -> Result<()> {
    let target = target();
    build(&target, dev)?;
    let built = |binary: &str| {
        let profile = if binary == PLUGIN { "plugin" } else { if dev { "debug" } else { "image" } };
        crate::target().join(&target).join(profile).join(binary)
    };
    let mut files = Vec::new();
    for binary in BINARIES {
        let path = built(binary);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure_static(&path, &bytes)?;
        files.push((format!("bin/{binary}"), bytes));
    }
    let plugin = fs::metadata(built(PLUGIN)).context("the plugin was just read")?.len();
    ensure!(plugin <= PLUGIN_LIMIT, "{PLUGIN} has {plugin} octets, and may have {PLUGIN_LIMIT}");

    let path = to.unwrap_or_else(|| crate::target().join("image/roadstead.tar"));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let unfinished = path.with_extension("unfinished");
    let file = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
    let digest = write_layout(BufWriter::new(file), name, &files)?;
    fs::rename(&unfinished, &path).with_context(|| format!("cannot rename {}", unfinished.display()))?;
    let size = fs::metadata(&path).context("it was just written")?.len();
    step::say(&format!(
        "    ok  {name}@{digest}: {}, {} MiB; {PLUGIN} {} KiB",
        path.display(),
        size >> 20,
        plugin >> 10
    ));
    Ok(())
}

/// Builds the plugin as the image has it; its path.
pub(crate) fn plugin() -> Result<PathBuf> {
    let target = target();
    let flags = static_flags(false);
    step::run("build the static plugin", step::nothing, &mut plugin_build(&target, &flags))?;
    Ok(crate::target().join(&target).join("plugin").join(PLUGIN))
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A build for a target of its own, which keeps procedural macros apart: they must not be static.
fn static_build(target: &str, flags: &str, arguments: &[&str]) -> Command {
    let variable = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    let mut command = cargo(arguments);
    command.args(["--target", target, "--bins"]).env(variable, flags).env("CARGO_PROFILE_DEV_STRIP", "true");
    command
}

fn plugin_build(target: &str, flags: &str) -> Command {
    static_build(target, flags, &["build", "--locked", "--profile", "plugin", "--package", PLUGIN])
}

/// Static by way of the C library's own archive.
fn static_flags(dev: bool) -> String {
    let mut flags = "-C target-feature=+crt-static -C relocation-model=static".to_owned();
    if !dev {
        let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
        let paths = [(crate::workspace().display().to_string(), "/roadstead"), (home.unwrap_or_default(), "/cargo")];
        flags.extend(paths.map(|(from, to)| format!(" --remap-path-prefix={from}={to}")));
    }
    flags
}

fn build(target: &str, dev: bool) -> Result<()> {
    let flags = static_flags(dev);
    let profile = if dev { "dev" } else { "image" };
    let packages = ["roadstead", "roadstead-controller", "roadstead-speaker"].map(|package| ["--package", package]);
    let arguments = [&["build", "--locked", "--profile", profile], packages.concat().as_slice()].concat();
    step::run("build static binaries", step::nothing, &mut static_build(target, &flags, &arguments))?;
    step::run("build the static plugin", step::nothing, &mut plugin_build(target, &flags))
}

/// One that asks for a loader cannot start where there is none.
fn ensure_static(path: &Path, elf: &[u8]) -> Result<()> {
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "{} is no ELF of 64 bits", path.display());
    ensure!(!asks_for_a_loader(elf).context("its program headers are cut off")?, "{} is not static", path.display());
    Ok(())
}

/// Whether a program header is of the kind PT_INTERP.
fn asks_for_a_loader(elf: &[u8]) -> Option<bool> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kinds: Option<Vec<usize>> = (0..count).map(|index| number(start + index * size, 4)).collect();
    Some(kinds?.contains(&3))
}

/// Writes an OCI image layout as a tarball; gives the digest of its manifest.
fn write_layout(writer: impl Write, name: &str, files: &[(String, Vec<u8>)]) -> Result<String> {
    let mut layer = tar::Builder::new(Vec::new());
    append_directory(&mut layer, "bin/")?;
    for (path, bytes) in files {
        append(&mut layer, path, bytes, 0o755)?;
    }
    let layer = layer.into_inner().context("cannot end the layer")?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&layer).context("cannot compress the layer")?;
    let packed = packed.finish().context("cannot compress the layer")?;

    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let version = env!("CARGO_PKG_VERSION");
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin"],
            "Labels": {
                "org.opencontainers.image.title": "roadstead",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string();
    let descriptor = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.as_bytes()),
        "layers": [descriptor("layer.v1.tar+gzip", &packed)],
    })
    .to_string();
    let mut entry = descriptor("manifest.v1+json", manifest.as_bytes());
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
    entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
    let index: Value = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });

    let mut image = tar::Builder::new(writer);
    append(&mut image, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(&mut image, "index.json", index.to_string().as_bytes(), 0o644)?;
    append_directory(&mut image, "blobs/")?;
    append_directory(&mut image, "blobs/sha256/")?;
    for bytes in [manifest.as_bytes(), config.as_bytes(), &packed] {
        append(&mut image, &format!("blobs/{}", digest(bytes).replace(':', "/")), bytes, 0o644)?;
    }
    image.into_inner().context("cannot end the image")?.flush().context("cannot write the image")?;
    Ok(digest(manifest.as_bytes()))
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).with_context(|| format!("cannot add {path}"))
}

fn append_directory(archive: &mut tar::Builder<impl Write>, path: &str) -> Result<()> {
    let mut header = header(tar::EntryType::Directory, 0o755);
    archive.append_data(&mut header, path, std::io::empty()).with_context(|| format!("cannot add {path}"))
}

/// Root's, and of the first second that there was.
fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_same_files_make_the_same_image_and_every_blob_has_its_name() {
        let files = [("bin/one".to_owned(), b"1".repeat(5000)), ("bin/two".to_owned(), b"2".to_vec())];
        let write = || {
            let mut image = Vec::new();
            let digest = write_layout(&mut image, "localhost/roadstead:9", &files).unwrap();
            (digest, image)
        };
        let (named, image) = write();
        assert_eq!(write(), (named.clone(), image.clone()));
        let mut blobs = 0;
        for entry in tar::Archive::new(image.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(name) = path.strip_prefix("blobs/sha256/").filter(|name| !name.is_empty()) {
                assert_eq!(digest(&bytes), format!("sha256:{name}"));
                blobs += 1;
            }
            if path == "index.json" {
                let index: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(index["manifests"][0]["digest"], named.as_str());
                assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/roadstead:9");
            }
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0), "{path}");
        }
        assert_eq!(blobs, 3);
    }

    #[test]
    fn a_program_that_asks_for_a_loader_is_not_static() {
        let mut elf = vec![0; 64 + 2 * 56];
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 2;
        assert_eq!(asks_for_a_loader(&elf), Some(false));
        elf[64 + 56] = 3;
        assert_eq!(asks_for_a_loader(&elf), Some(true));
        assert_eq!(asks_for_a_loader(&elf[..100]), None);
    }
}

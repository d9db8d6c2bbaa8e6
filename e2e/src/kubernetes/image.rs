//! An OCI image from Debian's static busybox: written by hand, because there is no registry and no container engine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::run::run;
use crate::scene::Scene;

/// What the image can do; every name is a link to busybox.
const APPLETS: &[&str] = &["cat", "echo", "httpd", "ip", "mkdir", "sh", "sleep"];

/// Writes the image `name` (`localhost/…:tag`: other names are looked up at a registry) as a tarball that
/// `ctr images import` takes.
///
/// Its entry point sleeps for ever, so that it serves as the sandbox of every Pod as well.
pub fn build_image(scene: &Scene, name: &str) -> Result<PathBuf> {
    let directory = scene.subdirectory("image")?;
    let root = directory.join("root/bin");
    fs::create_dir_all(&root).context("cannot make the image's root")?;
    fs::copy("/bin/busybox", root.join("busybox")).context("cannot copy /bin/busybox")?;
    for applet in APPLETS {
        symlink("busybox", root.join(applet)).with_context(|| format!("cannot link {applet}"))?;
    }
    let layout = directory.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).context("cannot make the image's layout")?;
    let layer = directory.join("layer.tar");
    tar(&layer, &directory.join("root"))?;

    let (layer_digest, layer_size) = add_blob(&layout, &fs::read(&layer).context("cannot read the layer")?)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "2147483647"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    });
    let (config_digest, config_size) = add_blob(&layout, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config_size),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer_digest, layer_size)],
    });
    let (manifest_digest, manifest_size) = add_blob(&layout, manifest.to_string().as_bytes())?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, manifest_size);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(layout.join("index.json"), index.to_string()).context("cannot write the image's index")?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).context("cannot write oci-layout")?;

    let image = directory.join("image.tar");
    tar(&image, &layout)?;
    Ok(image)
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// Writes a blob under its digest and gives the digest and the size.
fn add_blob(layout: &Path, bytes: &[u8]) -> Result<(String, usize)> {
    let blobs = layout.join("blobs/sha256");
    let unnamed = blobs.join("unnamed");
    fs::write(&unnamed, bytes).context("cannot write a blob")?;
    let printed = run("sha256sum", &unnamed.to_string_lossy())?;
    let digest = printed.split_whitespace().next().context("sha256sum printed nothing")?;
    fs::rename(&unnamed, blobs.join(digest)).context("cannot name a blob")?;
    Ok((format!("sha256:{digest}"), bytes.len()))
}

fn tar(file: &Path, directory: &Path) -> Result<()> {
    run("tar", &format!("--owner=0 --group=0 -cf {} -C {} .", file.display(), directory.display())).map(drop)
}

/// The machine's architecture as Go, and so every image, names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

//! `roadstead crds`.

use std::io::Write;
use std::process::ExitCode;

use roadstead_api::kinds;

/// Print the CustomResourceDefinitions, ready for `kubectl apply -f -`.
#[derive(clap::Args)]
pub(crate) struct Flags {}

/// Prints one YAML document for each kind.
pub(crate) fn crds(Flags {}: Flags) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for definition in kinds::crds() {
        // By way of a JSON value: its maps are sorted, so that the output is the same in every build.
        let definition = serde_json::to_value(&definition)?;
        writeln!(out, "---\n{}", serde_saphyr::to_string(&definition)?.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

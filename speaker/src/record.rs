//! The flags that both binaries with a speaker have for its recording.

use std::path::PathBuf;

use roadstead_bgp::driver::RecordTo;

/// Whether and where the BGP engine is recorded.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordFlags {
    /// Write every input of the BGP engine with its time to this file, for `roadstead replay`; an earlier file is kept as FILE.1.
    /// Passwords are not in it, everything that peers say is
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Where the recording ends, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..), requires = "record")]
    record_limit: u32,
}

impl From<RecordFlags> for Option<RecordTo> {
    fn from(flags: RecordFlags) -> Self {
        flags.record.map(|path| RecordTo { path, limit: u64::from(flags.record_limit) * 1024 * 1024 })
    }
}

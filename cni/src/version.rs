//! Versions of the CNI specification.

use std::fmt;
use std::str::FromStr;

/// A version of the CNI specification that the plugin speaks, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Results with several addresses, and chains of plugins.
    V0_3_1,
    /// CHECK.
    V0_4_0,
    /// No `version` beside an address.
    V1_0_0,
    /// GC and STATUS.
    V1_1_0,
}

/// The specification's version is not one of [`Version::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cniVersion {given:?} is not spoken here; spoken are 0.3.1, 0.4.0, 1.0.0 and 1.1.0")]
pub struct UnknownVersion {
    /// As the runtime wrote it; empty where it wrote none, which the specification takes for 0.1.0.
    pub given: String,
}

impl Version {
    /// Every version that is spoken, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// What an answer says where the runtime's version is not known.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As `cniVersion` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let version = Self::ALL.into_iter().find(|version| version.as_str() == text);
        version.ok_or_else(|| UnknownVersion { given: text.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

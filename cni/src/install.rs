//! `roadstead-cni install`: puts this program where the runtimes of a node look for plugins, and the list of plugins beside theirs.
//!
//! A runtime may start the plugin, and reads its lists, at any moment: each file is written whole under another name and then renamed
//! into its place. A file that is there already, with the same content, is not touched.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How it is called.
pub const USAGE: &str =
    "usage: roadstead-cni install --bin-dir=DIRECTORY [--list=FILE --list-dir=DIRECTORY], each from the root";

/// What is to be put where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Where runtimes look for plugins: /opt/cni/bin.
    pub bin_dir: PathBuf,
    /// A list of plugins, and where runtimes look for lists: /etc/cni/net.d.
    pub list: Option<(PathBuf, PathBuf)>,
}

/// Why it is not there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The command line says something else.
    #[error("{given:?}: {USAGE}")]
    Arguments {
        /// The argument.
        given: OsString,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// Read, or write.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Install {
    /// Reads the arguments behind `install`.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, InstallError> {
        let (mut bin_dir, mut list, mut list_dir) = (None, None, None);
        for given in arguments {
            let place = match given.to_str().and_then(|text| text.split_once('=')) {
                Some(("--bin-dir", value)) => bin_dir.insert(PathBuf::from(value)),
                Some(("--list", value)) => list.insert(PathBuf::from(value)),
                Some(("--list-dir", value)) => list_dir.insert(PathBuf::from(value)),
                _ => return Err(InstallError::Arguments { given }),
            };
            if !place.is_absolute() {
                return Err(InstallError::Arguments { given });
            }
        }
        let missing = |name: &str| InstallError::Arguments { given: name.into() };
        let bin_dir = bin_dir.ok_or_else(|| missing("--bin-dir"))?;
        let list = match (list, list_dir) {
            (None, None) => None,
            (Some(list), Some(list_dir)) => Some((list, list_dir)),
            (None, Some(_)) => return Err(missing("--list")),
            (Some(_), None) => return Err(missing("--list-dir")),
        };
        Ok(Self { bin_dir, list })
    }

    /// Does it; gives the files that were written. The list comes last: a runtime that sees it starts the plugin.
    pub fn run(&self, program: &Path) -> Result<Vec<PathBuf>, InstallError> {
        let mut written = Vec::new();
        let plugin = Some((program, self.bin_dir.join("roadstead-cni"), 0o755));
        let list = self
            .list
            .as_ref()
            .map(|(list, directory)| (list.as_path(), directory.join(list.file_name().unwrap_or_default()), 0o644));
        for (from, to, mode) in plugin.into_iter().chain(list) {
            let content = fs::read(from).map_err(|source| file_error("read", from, source))?;
            if !is_there(&to, &content, mode) {
                replace(&to, &content, mode).map_err(|source| file_error("write", &to, source))?;
                written.push(to);
            }
        }
        Ok(written)
    }
}

fn file_error(what: &'static str, path: &Path, source: io::Error) -> InstallError {
    InstallError::File { what, path: path.to_owned(), source }
}

fn is_there(path: &Path, content: &[u8], mode: u32) -> bool {
    let has_mode =
        path.symlink_metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o777 == mode);
    has_mode && fs::read(path).is_ok_and(|found| found == content)
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // Runtimes read what ends in .conf, .conflist or .json, and start what a list names: not this.
    let unfinished =
        path.with_file_name(format!(".{}.unfinished", path.file_name().unwrap_or_default().to_string_lossy()));
    let mut file = File::create(&unfinished)?;
    let done = file.write_all(content).and_then(|()| {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    });
    done.inspect_err(|_| {
        // A full disk should have the space back.
        let _ = fs::remove_file(&unfinished);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Install, String> {
        Install::read(arguments.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments() {
        let install = Install { bin_dir: "/b".into(), list: Some(("/l".into(), "/d".into())) };
        assert_eq!(read(&["--list=/l", "--bin-dir=/b", "--list-dir=/d"]), Ok(install));
        assert_eq!(read(&["--bin-dir=/b"]), Ok(Install { bin_dir: "/b".into(), list: None }));
        for (arguments, word) in [
            (&[][..], "--bin-dir"),
            (&["--bin-dir"], "--bin-dir"),
            (&["--bin-dir=opt"], "from the root"),
            (&["--bin-dir=/b", "--list=/l"], "--list-dir"),
            (&["--bin-dir=/b", "--list-dir=/l"], "--list"),
            (&["--help"], "usage"),
        ] {
            assert!(read(arguments).unwrap_err().contains(word), "{arguments:?}");
        }
    }

    #[test]
    fn what_is_there_is_not_touched_and_what_is_not_comes_whole() {
        let directory = std::env::temp_dir().join(format!("roadstead-cni-install-{}", std::process::id()));
        let (program, list) = (directory.join("program"), directory.join("10-pods.conflist"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(&program, "one").unwrap();
        fs::write(&list, "{}").unwrap();
        let (bin_dir, list_dir) = (directory.join("bin"), directory.join("net.d"));
        let install = Install { bin_dir: bin_dir.clone(), list: Some((list, list_dir.clone())) };
        let (plugin, placed) = (bin_dir.join("roadstead-cni"), list_dir.join("10-pods.conflist"));
        assert_eq!(install.run(&program).unwrap(), [plugin.clone(), placed]);
        assert_eq!(install.run(&program).unwrap(), Vec::<PathBuf>::new());
        // One that is running, or a link to another place, is replaced and not written into.
        fs::write(&program, "two").unwrap();
        fs::remove_file(&plugin).unwrap();
        std::os::unix::fs::symlink(directory.join("elsewhere"), &plugin).unwrap();
        assert_eq!(install.run(&program).unwrap(), std::slice::from_ref(&plugin));
        let found = plugin.symlink_metadata().unwrap();
        assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o755, "{found:?}");
        assert_eq!(fs::read_to_string(&plugin).unwrap(), "two");
        assert!(!directory.join("elsewhere").exists());
        assert_eq!(fs::read_dir(&bin_dir).unwrap().count(), 1, "something unfinished was left");
        let error = install.run(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("cannot read /nowhere"), "{error}");
        fs::remove_dir_all(&directory).unwrap();
    }
}

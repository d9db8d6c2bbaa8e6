//! DELs that the speaker could not be told of: each a file beside its socket, which it reads when it is back.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::socket::DelRequest;

/// Files that are read at once; more wait for the next look.
const AT_ONCE: usize = 4096;
/// The longest file that is read: longer ones are none of ours.
const LONGEST: u64 = 16 * 1024;

/// Where the leftovers of a socket lie.
pub fn directory(socket: &Path) -> PathBuf {
    socket.with_extension("deletions")
}

/// Leaves a deletion for the speaker. Written whole or not at all.
pub fn leave(socket: &Path, deletion: &DelRequest) -> io::Result<()> {
    let directory = directory(socket);
    fs::create_dir_all(&directory)?;
    // Both parts were checked: no slash is in them, so the name stays in the directory.
    let name = format!("{}@{}", deletion.attachment.container_id, deletion.attachment.interface);
    let unfinished = directory.join(format!(".{name}"));
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(deletion)?)?;
    fs::rename(&unfinished, directory.join(name))
}

/// What was left, with the file to remove once it is done. A file that is no deletion comes as `None`.
pub fn read(socket: &Path) -> io::Result<Vec<(PathBuf, Option<DelRequest>)>> {
    let entries = match fs::read_dir(directory(socket)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut left = Vec::new();
    for entry in entries.take(AT_ONCE) {
        let path = entry?.path();
        let is_finished = !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_finished && fs::symlink_metadata(&path)?.is_file() {
            let deletion =
                if path.metadata()?.len() <= LONGEST { serde_json::from_slice(&fs::read(&path)?).ok() } else { None };
            left.push((path, deletion));
        }
    }
    left.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(left)
}

//! A file whose content changes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::pipeline::hex;

/// A file that is looked at again and again.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    /// SHA-256 of what it held when it was last read.
    hash: String,
}

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        Self::known(path, "")
    }

    /// A file whose content of this hash is known already.
    pub(super) fn known(path: PathBuf, hash: &str) -> Self {
        Self {
            path,
            hash: hash.to_owned(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its content and the SHA-256 of that, if it is another than before. A file that cannot be read is as it was: it
    /// may be gone for the moment in which it is replaced.
    pub(super) fn changed(&mut self) -> Option<(String, String)> {
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::debug!(file = %self.path.display(), %error, "cannot read a file");
                }
                return None;
            }
        };
        let hash = hash(&text);
        if hash == self.hash {
            return None;
        }
        self.hash.clone_from(&hash);
        Some((String::from_utf8_lossy(&text).into_owned(), hash))
    }

    /// What it describes, if it is another than before. An empty file describes nothing.
    pub(super) fn changed_to<T: DeserializeOwned>(&mut self) -> Option<T> {
        let (text, _) = self.changed()?;
        if text.trim().is_empty() {
            return None;
        }
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(file = %self.path.display(), %error, "not what it should be; it is ignored");
                None
            }
        }
    }
}

/// SHA-256 in hexadecimal digits.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_by_content_whatever_the_link_points_to() {
        let folder = tempfile::tempdir().unwrap();
        let (link, one, two) = (
            folder.path().join("data"),
            folder.path().join("1"),
            folder.path().join("2"),
        );
        let mut watched = Watched::new(link.join("file"));
        assert_eq!(watched.changed(), None, "not there yet");
        for (target, text) in [(&one, "1"), (&two, "2")] {
            std::fs::create_dir(target).unwrap();
            std::fs::write(target.join("file"), text).unwrap();
            std::fs::remove_file(&link).ok();
            std::os::unix::fs::symlink(target, &link).unwrap();
            let (seen, hash) = watched.changed().expect("another content");
            assert_eq!((seen.as_str(), hash.len()), (text, 64));
            assert_eq!(watched.changed(), None);
        }
        std::fs::write(two.join("file"), "").unwrap();
        assert_eq!(watched.changed_to::<u32>(), None, "empty is nothing");
        std::fs::write(two.join("file"), "7").unwrap();
        assert_eq!(watched.changed_to::<u32>(), Some(7));
    }
}

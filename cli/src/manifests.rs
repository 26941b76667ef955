//! Reads manifests from where the user says they are.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use millrace_crds::ManifestFile;

/// Names that a directory's manifests end in.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Why manifests could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The system did not let us.
    #[error("cannot read {}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory without a manifest: most likely the wrong one.
    #[error("{}: no *.yaml, *.yml or *.json in this directory", .0.display())]
    Empty(PathBuf),
}

/// Reads files, the manifests directly in directories (by name), and standard input for `-`.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<ManifestFile>, ReadError> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            files.push(standard_input()?);
        } else if path.is_dir() {
            for file in directory(path)? {
                files.push(file_at(&file)?);
            }
        } else {
            files.push(file_at(path)?);
        }
    }
    Ok(files)
}

fn standard_input() -> Result<ManifestFile, ReadError> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(at(Path::new("standard input")))?;
    Ok(ManifestFile {
        path: "-".to_owned(),
        text,
    })
}

fn file_at(path: &Path) -> Result<ManifestFile, ReadError> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    Ok(ManifestFile {
        path: path.display().to_string(),
        text,
    })
}

fn directory(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(at(path))? {
        let file = entry.map_err(at(path))?.path();
        let named = file.extension().and_then(|extension| extension.to_str());
        if named.is_some_and(|extension| EXTENSIONS.contains(&extension)) && file.is_file() {
            found.push(file);
        }
    }
    found.sort();
    if found.is_empty() {
        Err(ReadError::Empty(path.to_owned()))
    } else {
        Ok(found)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ReadError + '_ {
    move |source| ReadError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_means_its_manifests_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "README.md", "d.yaml.orig"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::create_dir(dir.path().join("e.yaml")).unwrap();
        let files = read(&[dir.path().to_owned()]).unwrap();
        assert_eq!(
            files.iter().map(|file| file.text.as_str()).collect::<Vec<_>>(),
            ["a.yml", "b.yaml", "c.json"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let absent = read(&[dir.path().join("absent.yaml")]).unwrap_err().to_string();
        assert!(absent.ends_with("/absent.yaml"), "{absent}");
        let empty = read(&[dir.path().to_owned()]).unwrap_err().to_string();
        assert!(
            empty.ends_with("no *.yaml, *.yml or *.json in this directory"),
            "{empty}"
        );
    }
}

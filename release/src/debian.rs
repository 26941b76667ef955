//! The Debian packages of an image, as its base lists them. Like distroless' images it has a file for each package in
//! `var/lib/dpkg/status.d`, which is where Trivy, Syft and Grype look.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};

/// What `os-release` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// `debian`
    pub id: String,
    /// `12`
    pub version: String,
}

/// A package that is in the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// `libssl3`
    pub name: String,
    /// `3.0.17-1~deb12u2`
    pub version: String,
    /// `amd64`
    pub architecture: String,
    /// The source package, which Debian's security notices name: `openssl`.
    pub source: String,
    /// Its version, which a package that was built again does not share: `3.0.17-1~deb12u2`.
    pub source_version: String,
    /// Who makes it.
    pub maintainer: String,
}

impl System {
    /// Of the image whose files are in `base`.
    ///
    /// # Errors
    /// Where it does not say what it is.
    pub fn read(base: &Path) -> anyhow::Result<Self> {
        let path = base.join("usr/lib/os-release");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let value = |key: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            let value = value.with_context(|| format!("{}: no {key}", path.display()))?;
            anyhow::Ok(value.trim_matches('"').to_owned())
        };
        Ok(Self {
            id: value("ID")?,
            version: value("VERSION_ID")?,
        })
    }
}

/// All of the image whose files are in `base`, by name.
///
/// # Errors
/// Where there is none, or a file does not describe one.
pub fn packages(base: &Path) -> anyhow::Result<Vec<Package>> {
    let folder = base.join("var/lib/dpkg/status.d");
    let mut packages = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md5sums") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        packages.push(package(&text).with_context(|| path.display().to_string())?);
    }
    packages.sort_unstable();
    ensure!(!packages.is_empty(), "{}: no package", folder.display());
    Ok(packages)
}

/// Reads a paragraph of a control file.
fn package(text: &str) -> anyhow::Result<Package> {
    // A line that begins with a space goes on with the field before it.
    let fields: BTreeMap<_, _> = text
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(": "))
        .collect();
    let field = |name: &str| {
        let value = fields.get(name).with_context(|| format!("no {name}"))?;
        anyhow::Ok((*value).to_owned())
    };
    let name = field("Package")?;
    let version = field("Version")?;
    // `Source: openssl (3.0.17-1)` where the versions differ; none where name and version are the package's own.
    let source = fields.get("Source").copied().unwrap_or(&name);
    let (source, source_version) = match source.split_once(" (") {
        Some((source, version)) => (source, version.trim_end_matches(')')),
        None => (source, &*version),
    };
    Ok(Package {
        source: source.to_owned(),
        source_version: source_version.to_owned(),
        architecture: field("Architecture")?,
        maintainer: field("Maintainer")?,
        version,
        name,
    })
}

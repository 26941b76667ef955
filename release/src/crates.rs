//! The crates that a program is made of, out of what cargo says of the workspace.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use auditable_serde::{DependencyKind, Package, Source, VersionInfo};
use serde::Deserialize;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `cargo metadata` prints, as far as it is needed.
#[derive(Deserialize)]
pub struct Metadata {
    packages: Vec<MetadataPackage>,
    resolve: Resolve,
    workspace_root: PathBuf,
    #[serde(skip)]
    lock: String,
}

#[derive(Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
    version: semver::Version,
    source: Option<String>,
    license: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

impl MetadataPackage {
    fn is_proc_macro(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }

    fn has_program(&self, name: &str) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|target| target.name == name && target.kind.iter().any(|kind| kind == "bin"))
    }

    fn source(&self) -> Source {
        match self.source.as_deref() {
            None => Source::Local,
            Some(CRATES_IO) => Source::CratesIo,
            Some(other) => Source::from(other.split('+').next().unwrap_or(other)),
        }
    }
}

impl Dependency {
    /// None for one that only tests need.
    fn kind(&self) -> Option<DependencyKind> {
        let kinds = self.dep_kinds.iter().map(|kind| kind.kind.as_deref());
        let kinds = kinds.filter_map(|kind| match kind {
            None => Some(DependencyKind::Runtime),
            Some("build") => Some(DependencyKind::Build),
            Some(_) => None,
        });
        kinds.max()
    }
}

/// What is known of a crate beside its name and version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// SPDX expression.
    pub licence: Option<String>,
    /// SHA-256 of the package, hexadecimal.
    pub checksum: Option<String>,
}

impl Metadata {
    /// Of the workspace in the current folder, for the platform that this program was compiled for; exactly as Cargo.lock
    /// has it.
    ///
    /// # Errors
    /// When cargo fails, or says something else than expected.
    pub fn of_workspace() -> anyhow::Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", &platform])
            .output()
            .context("cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Self = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        let lock =
            std::fs::read_to_string(metadata.workspace_root.join("Cargo.lock")).context("Cargo.lock")?;
        Ok(Self { lock, ..metadata })
    }

    /// What `program` is made of: runtime dependencies are in it, build dependencies were needed to compile it. The rules are
    /// those of `cargo auditable`: what a build dependency or a procedural macro depends on is of the same kind, and of two
    /// ways to a crate the stronger one counts.
    ///
    /// # Errors
    /// When the workspace has no such program.
    pub fn crates_of(&self, program: &str) -> anyhow::Result<VersionInfo> {
        let Some(root) = self.packages.iter().find(|package| package.has_program(program)) else {
            bail!("the workspace has no program {program}");
        };
        let nodes: HashMap<&str, &Node> = self.resolve.nodes.iter().map(|node| (&*node.id, node)).collect();
        let by_id: HashMap<&str, &MetadataPackage> = self
            .packages
            .iter()
            .map(|package| (&*package.id, package))
            .collect();
        let mut kinds = HashMap::from([(&*root.id, DependencyKind::Runtime)]);
        let mut queue = vec![&*root.id];
        while let Some(parent) = queue.pop() {
            let of_parent = kinds[parent];
            for dependency in &nodes[parent].deps {
                let id = &*dependency.pkg;
                let Some(mut kind) = dependency.kind() else {
                    continue;
                };
                kind = kind.min(of_parent);
                if by_id[id].is_proc_macro() {
                    kind = DependencyKind::Build;
                }
                if kinds.get(id).is_none_or(|seen| *seen < kind) {
                    kinds.insert(id, kind);
                    queue.push(id);
                }
            }
        }

        let mut packages: Vec<_> = self
            .packages
            .iter()
            .filter(|package| kinds.contains_key(&*package.id))
            .collect();
        packages.sort_unstable_by_key(|package| (&package.name, &package.id));
        let position: HashMap<&str, usize> = packages
            .iter()
            .enumerate()
            .map(|(position, package)| (&*package.id, position))
            .collect();
        let packages = packages.iter().map(|package| {
            let dependencies = nodes[&*package.id].deps.iter();
            let dependencies = dependencies.filter(|dependency| dependency.kind().is_some());
            let mut dependencies: Vec<_> = dependencies
                .map(|dependency| position[&*dependency.pkg])
                .collect();
            dependencies.sort_unstable();
            Package {
                name: package.name.clone(),
                version: package.version.clone(),
                source: package.source(),
                kind: kinds[&*package.id],
                dependencies,
                root: package.id == root.id,
            }
        });
        Ok(VersionInfo {
            packages: packages.collect(),
            format: 1,
        })
    }

    /// Licences and checksums of all crates, by name and version.
    #[must_use]
    pub fn published(&self) -> BTreeMap<(String, String), Published> {
        let checksums = checksums(&self.lock);
        let packages = self.packages.iter().map(|package| {
            let key = (package.name.clone(), package.version.to_string());
            let published = Published {
                // The old way to write a choice.
                licence: package
                    .license
                    .as_ref()
                    .map(|licence| licence.replace(" / ", " OR ").replace('/', " OR ")),
                checksum: checksums.get(&key).cloned(),
            };
            (key, published)
        });
        packages.collect()
    }
}

/// Those of Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").skip(1).filter_map(|package| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim_start_matches(" = ").trim_matches('"').to_owned())
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    });
    packages.collect()
}

/// The content of the section `.dep-v0`.
///
/// # Errors
/// When the list cannot be written as JSON.
pub fn compressed(list: &VersionInfo) -> anyhow::Result<Vec<u8>> {
    let json = serde_json::to_vec(list)?;
    Ok(miniz_oxide::deflate::compress_to_vec_zlib(&json, 7))
}

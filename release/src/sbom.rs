//! The software bill of materials, in CycloneDX 1.5. The same image gives the same text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use auditable_serde::{DependencyKind, Source, VersionInfo};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::crates::Published;
use crate::debian;

/// Libraries in C that crates bring along, whose version stands behind the crate's own.
const BUNDLED: [(&str, &str, &str, &str); 2] = [
    ("rdkafka-sys", "", "librdkafka", "confluentinc/librdkafka"),
    ("zstd-sys", "zstd.", "zstd", "facebook/zstd"),
];

/// A program in the image.
#[derive(Debug, Clone)]
pub struct Program {
    /// The name of its file.
    pub name: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// What it carries in its section `.dep-v0`.
    pub crates: VersionInfo,
}

impl Program {
    /// Reads it from its file.
    ///
    /// # Errors
    /// When there is none, or it carries no list of its crates.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().context("no file")?;
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            sha256: sha256(&std::fs::read(path)?),
            crates: auditable_info::audit_info_from_file(path, auditable_info::Limits::default())?,
        })
    }
}

/// All that is in the image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Without a tag.
    pub name: String,
    /// In seconds since 1970, where that is known.
    pub made_at: Option<i64>,
    /// What the base is.
    pub system: debian::System,
    /// The packages of the base.
    pub packages: Vec<debian::Package>,
    /// What was put on the base.
    pub programs: Vec<Program>,
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org): the time that what is made bears.
///
/// # Errors
/// When it is no number.
pub fn source_date() -> anyhow::Result<Option<i64>> {
    let epoch = std::env::var_os("SOURCE_DATE_EPOCH");
    let epoch = epoch.map(|epoch| epoch.to_string_lossy().parse().context("SOURCE_DATE_EPOCH"));
    epoch.transpose()
}

impl Image {
    /// The bill; `known` has licences and checksums of crates.
    #[must_use]
    pub fn bill_of_materials(&self, known: &BTreeMap<(String, String), Published>) -> Value {
        let mut components = BTreeMap::new();
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let image = format!("image:{}", self.name);
        let system = format!("{}-{}", self.system.id, self.system.version);
        components.insert(
            format!("system:{system}"),
            json!({"type": "operating-system", "name": self.system.id, "version": self.system.version}),
        );
        for package in &self.packages {
            let (reference, component) = package.component(&self.system);
            needs.entry(image.clone()).or_default().insert(reference.clone());
            components.insert(reference, component);
        }
        for program in &self.programs {
            let reference = format!("program:{}", program.name);
            needs.entry(image.clone()).or_default().insert(reference.clone());
            let compiled_in: Vec<_> = program.crates.packages.iter().map(compiled_in).collect();
            let dependencies = program.crates.packages.iter().zip(&compiled_in);
            for (package, name) in dependencies.filter_map(|(package, name)| Some((package, name.as_ref()?)))
            {
                if package.root {
                    needs.entry(reference.clone()).or_default().insert(name.clone());
                }
                let own = needs.entry(name.clone()).or_default();
                own.extend(
                    package
                        .dependencies
                        .iter()
                        .filter_map(|position| compiled_in[*position].clone()),
                );
                if let Some((library, component)) = bundled(package) {
                    own.insert(library.clone());
                    components.insert(library, component);
                }
                let published = known.get(&(package.name.clone(), package.version.to_string()));
                components.insert(name.clone(), crate_component(package, published));
            }
            let hashes = json!([{"alg": "SHA-256", "content": program.sha256}]);
            let version = program.crates.packages.iter().find(|package| package.root);
            let version = version.map(|root| root.version.to_string());
            components.insert(
                reference,
                json!({"type": "application", "name": program.name, "version": version, "hashes": hashes}),
            );
        }

        let version = self.programs.iter().find_map(|program| {
            let root = program.crates.packages.iter().find(|package| package.root)?;
            Some(root.version.to_string())
        });
        let with_reference = |(reference, mut component): (String, Value)| {
            component["bom-ref"] = reference.into();
            component
        };
        let mut metadata = json!({
            "tools": {"components": [
                {"type": "application", "name": "millrace-sbom", "version": env!("CARGO_PKG_VERSION")},
            ]},
            "component": {"type": "container", "bom-ref": image, "name": self.name, "version": version},
        });
        if let Some(time) = self
            .made_at
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        {
            metadata["timestamp"] = time.to_string().into();
        }
        let mut bill = json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": metadata,
            "components": components.into_iter().map(with_reference).collect::<Vec<_>>(),
            "dependencies": needs
                .into_iter()
                .map(|(reference, needs)| json!({"ref": reference, "dependsOn": needs}))
                .collect::<Vec<_>>(),
        });
        bill["serialNumber"] = serial_number(&bill).into();
        bill
    }
}

impl debian::Package {
    fn component(&self, system: &debian::System) -> (String, Value) {
        let purl = format!(
            "pkg:deb/{}/{}@{}?arch={}&distro={}-{}&upstream={}",
            system.id,
            encoded(&self.name),
            encoded(&self.version),
            self.architecture,
            system.id,
            system.version,
            encoded(&format!("{}@{}", self.source, self.source_version)),
        );
        // Trivy knows the parts of a version apart: [epoch:]version[-release].
        let (epoch, rest) = self
            .source_version
            .split_once(':')
            .unwrap_or(("0", &self.source_version));
        let (version, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
        let parts = [
            ("PkgType", &*system.id),
            ("SrcName", &self.source),
            ("SrcEpoch", epoch),
            ("SrcVersion", version),
            ("SrcRelease", release),
        ];
        let parts =
            parts.map(|(name, value)| json!({"name": format!("aquasecurity:trivy:{name}"), "value": value}));
        let component = json!({
            "type": "library",
            "name": self.name,
            "version": self.version,
            "purl": purl,
            "supplier": {"name": self.maintainer},
            "properties": parts,
        });
        (purl, component)
    }
}

/// How the bill refers to a crate; none for one that was only needed to compile others.
fn compiled_in(package: &auditable_serde::Package) -> Option<String> {
    (package.kind == DependencyKind::Runtime).then(|| match package.source {
        Source::Local => format!("workspace:{}@{}", package.name, package.version),
        _ => format!(
            "pkg:cargo/{}@{}",
            package.name,
            encoded(&package.version.to_string())
        ),
    })
}

fn crate_component(package: &auditable_serde::Package, published: Option<&Published>) -> Value {
    let mut component =
        json!({"type": "library", "name": package.name, "version": package.version.to_string()});
    if package.source != Source::Local {
        component["purl"] = compiled_in(package).into();
    }
    if let Some(licence) = published.and_then(|published| published.licence.as_deref()) {
        component["licenses"] = json!([{"expression": licence}]);
    }
    if let Some(checksum) = published.and_then(|published| published.checksum.as_deref()) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

fn bundled(package: &auditable_serde::Package) -> Option<(String, Value)> {
    let (_, prefix, name, repository) = BUNDLED.iter().find(|(name, ..)| *name == package.name)?;
    let version = package.version.build.as_str().strip_prefix(prefix)?;
    let purl = format!("pkg:github/{repository}@v{version}");
    let component = json!({"type": "library", "name": name, "version": version, "purl": purl});
    Some((purl, component))
}

/// For a part of a package URL.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes all");
        }
        encoded
    })
}

fn sha256(data: &[u8]) -> String {
    Sha256::digest(data).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// A UUID out of what the bill says (RFC 9562, version 8), so that it changes when that does and only then.
fn serial_number(bill: &Value) -> String {
    let hash = sha256(bill.to_string().as_bytes());
    format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[13..16],
        &hash[17..20],
        &hash[20..32]
    )
}

//! What programs and the bill of materials say is in them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use auditable_serde::{DependencyKind, VersionInfo};
use millrace_release::crates::{Metadata, compressed};
use millrace_release::debian::{self, System};
use millrace_release::sbom::{Image, Program};
use serde_json::Value;

const LIBSSL: &str = "Package: libssl3
Source: openssl (3.0.16-1)
Version: 3.0.16-1~deb12u1+b1
Architecture: amd64
Maintainer: Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>
Description: Secure Sockets Layer toolkit - shared libraries
 Version: of a line that goes on with the one before it
";
const LIBC: &str = "Package: libc6
Version: 2.36-9
Architecture: amd64
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
";

/// The files of a base with two packages.
fn base() -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    let status = base.path().join("var/lib/dpkg/status.d");
    std::fs::create_dir_all(&status).unwrap();
    std::fs::create_dir_all(base.path().join("usr/lib")).unwrap();
    std::fs::write(status.join("libssl3"), LIBSSL).unwrap();
    std::fs::write(status.join("libc6"), LIBC).unwrap();
    std::fs::write(
        status.join("libc6.md5sums"),
        "d41d8cd98f00b204e9800998ecf8427e  lib/libc.so.6\n",
    )
    .unwrap();
    let os = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
    std::fs::write(base.path().join("usr/lib/os-release"), os).unwrap();
    base
}

fn crates_of(program: &str) -> VersionInfo {
    Metadata::of_workspace().unwrap().crates_of(program).unwrap()
}

fn image(programs: Vec<Program>) -> Image {
    let base = base();
    Image {
        name: "millrace.dev/millrace".to_owned(),
        made_at: Some(1_700_000_000),
        system: System::read(base.path()).unwrap(),
        packages: debian::packages(base.path()).unwrap(),
        programs,
    }
}

fn bill(programs: Vec<Program>) -> Value {
    image(programs).bill_of_materials(&Metadata::of_workspace().unwrap().published())
}

fn program(name: &str) -> Program {
    Program {
        name: name.to_owned(),
        sha256: "0".repeat(64),
        crates: crates_of(name),
    }
}

fn component<'a>(bill: &'a Value, name: &str) -> Option<&'a Value> {
    bill["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|component| component["name"] == name)
}

#[test]
fn a_program_lists_what_is_compiled_into_it_and_what_it_took_to_compile_but_nothing_of_tests() {
    let list = crates_of("bridge-worker");
    let kind = |name: &str| {
        let package = list.packages.iter().find(|package| package.name == name);
        package.map(|package| package.kind)
    };
    for name in [
        "bridge-worker",
        "millrace-contract",
        "rustls",
        "rdkafka-sys",
        "x509-parser",
    ] {
        assert_eq!(kind(name), Some(DependencyKind::Runtime), "{name}");
    }
    // A procedural macro and what it is made of; a compiler of C.
    for name in ["serde_derive", "syn", "cc"] {
        assert_eq!(kind(name), Some(DependencyKind::Build), "{name}");
    }
    for name in ["proptest", "millrace-testkit", "kube-runtime"] {
        assert_eq!(kind(name), None, "{name}");
    }
    let roots: Vec<_> = list.packages.iter().filter(|package| package.root).collect();
    assert_eq!(roots.len(), 1);
    assert_eq!(roots[0].name, "bridge-worker");
    assert!(
        Metadata::of_workspace()
            .unwrap()
            .crates_of("no-such-program")
            .is_err()
    );
}

#[test]
fn the_list_is_read_out_of_a_program_by_the_reader_of_cargo_auditable() {
    let folder = tempfile::tempdir().unwrap();
    let list = crates_of("millrace");
    let (section, file) = (folder.path().join("crates"), folder.path().join("millrace"));
    std::fs::write(&section, compressed(&list).unwrap()).unwrap();
    std::fs::copy("/bin/true", &file).unwrap();
    let without = Program::read(&file).unwrap_err();
    assert!(without.to_string().contains("No audit data"), "{without}");
    let added = Command::new("objcopy")
        .arg(format!("--add-section=.dep-v0={}", section.display()))
        .arg(&file)
        .status();
    assert!(added.unwrap().success());
    let program = Program::read(&file).unwrap();
    assert_eq!(program.crates, list);
    // It runs as before.
    assert!(Command::new(&file).status().unwrap().success());
}

#[test]
fn the_bill_names_crates_libraries_in_c_and_packages_as_scanners_look_for_them() {
    let bill = bill(vec![program("bridge-worker"), program("millrace-operator")]);
    let purl = |name: &str| {
        component(&bill, name).unwrap()["purl"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        purl("libssl3"),
        "pkg:deb/debian/libssl3@3.0.16-1~deb12u1%2Bb1?arch=amd64&distro=debian-12&upstream=openssl%403.0.16-1"
    );
    assert_eq!(
        purl("libc6"),
        "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12&upstream=libc6%402.36-9"
    );
    let properties = component(&bill, "libssl3").unwrap()["properties"]
        .as_array()
        .unwrap()
        .iter();
    let properties: Vec<_> = properties
        .map(|property| property["value"].as_str().unwrap())
        .collect();
    assert_eq!(properties, ["debian", "openssl", "0", "3.0.16", "1"]);
    let sys = purl("rdkafka-sys");
    let version = sys.rsplit_once("%2B").unwrap().1;
    assert_eq!(
        purl("librdkafka"),
        format!("pkg:github/confluentinc/librdkafka@v{version}")
    );
    assert!(purl("zstd").starts_with("pkg:github/facebook/zstd@v1."));
    let rustls = component(&bill, "rustls").unwrap();
    assert_eq!(rustls["licenses"][0]["expression"], "Apache-2.0 OR ISC OR MIT");
    assert_eq!(rustls["hashes"][0]["content"].as_str().unwrap().len(), 64);
    assert!(
        component(&bill, "syn").is_none(),
        "what only compiles is not in the image"
    );
    // Our own are in no registry, where another could have their name.
    assert_eq!(component(&bill, "millrace-contract").unwrap().get("purl"), None);
    assert_eq!(bill["metadata"]["timestamp"], "2023-11-14T22:13:20Z");

    let components = bill["components"].as_array().unwrap().iter();
    let mut references: BTreeSet<_> = components
        .map(|component| component["bom-ref"].as_str().unwrap())
        .collect();
    assert_eq!(
        references.len(),
        bill["components"].as_array().unwrap().len(),
        "each once"
    );
    references.insert(bill["metadata"]["component"]["bom-ref"].as_str().unwrap());
    for dependency in bill["dependencies"].as_array().unwrap() {
        let needs = dependency["dependsOn"].as_array().unwrap().iter();
        for reference in needs.chain([&dependency["ref"]]) {
            assert!(references.contains(reference.as_str().unwrap()), "{reference}");
        }
    }
}

#[test]
fn the_bill_changes_with_what_is_in_the_image_and_with_nothing_else() {
    let first = bill(vec![program("bridge-worker")]);
    assert_eq!(first, bill(vec![program("bridge-worker")]));
    let mut patched = program("bridge-worker");
    patched.sha256 = "1".repeat(64);
    assert_ne!(first["serialNumber"], bill(vec![patched])["serialNumber"]);
    let serial = first["serialNumber"].as_str().unwrap();
    assert_eq!(
        serial.len(),
        "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".len()
    );
}

#[test]
fn a_base_that_does_not_say_what_is_in_it_is_refused() {
    let base = base();
    let status = base.path().join("var/lib/dpkg/status.d");
    std::fs::write(status.join("libssl3"), LIBSSL.replace("Version: 3", "Versoin: 3")).unwrap();
    let error = debian::packages(base.path()).unwrap_err();
    assert!(
        format!("{error:#}").ends_with("status.d/libssl3: no Version"),
        "{error:#}"
    );
    for file in ["libssl3", "libc6", "libc6.md5sums"] {
        std::fs::remove_file(status.join(file)).unwrap();
    }
    assert!(debian::packages(base.path()).is_err());
    assert!(System::read(Path::new("/nowhere")).is_err());
}

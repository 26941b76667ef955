//! The image itself: what is in it is in its bill of materials, and it needs no rights.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use millrace_e2e::{Confinement, SOON, docker};
use millrace_release::debian;
use millrace_release::sbom::Program;
use millrace_testkit::wait_until;
use serde_json::Value;

const IMAGE: &str = "millrace.dev/millrace:local";
const PROGRAMS: [&str; 3] = ["bridge-worker", "millrace", "millrace-operator"];
const BILL: &str = "usr/share/sbom/millrace.cdx.json";

/// The files of the image.
struct Files(tempfile::TempDir);

impl Files {
    fn of_image() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive.tar");
        let container = docker(&["create", IMAGE, "none"]);
        docker(&["export", "-o", archive.to_str().unwrap(), container.trim()]);
        docker(&["rm", container.trim()]);
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut tar = std::process::Command::new("tar");
        let unpacked = tar.arg("-xf").arg(archive).arg("-C").arg(root).status();
        assert!(unpacked.unwrap().success());
        Self(folder)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn bill(&self) -> Value {
        serde_json::from_slice(&fs::read(self.root().join(BILL)).unwrap()).unwrap()
    }

    /// All that the kernel would run or a program load, as paths from the root.
    fn compiled(&self) -> BTreeSet<PathBuf> {
        let root = self.root();
        let (mut compiled, mut folders) = (BTreeSet::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let (kind, path) = entry
                    .map(|entry| (entry.file_type().unwrap(), entry.path()))
                    .unwrap();
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() && fs::read(&path).unwrap().starts_with(b"\x7fELF") {
                    compiled.insert(path.strip_prefix(&root).unwrap().to_owned());
                }
            }
        }
        compiled
    }
}

/// Name and version of the components whose package URL begins with this.
fn listed(bill: &Value, purl: &str) -> BTreeSet<(String, String)> {
    let components = bill["components"].as_array().unwrap().iter();
    let components = components.filter(|component| {
        component["purl"]
            .as_str()
            .is_some_and(|url| url.starts_with(purl))
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    components
        .map(|component| (text(&component["name"]), text(&component["version"])))
        .collect()
}

/// Crates whose sources a program names, where they say in which line they panic: `NAME-VERSION`.
fn named_by(program: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(program);
    let paths = text.split("/registry/src/").skip(1);
    // The folder of the registry, then that of the crate.
    let crates = paths.filter_map(|path| path.split('/').nth(1));
    crates.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn the_bill_of_materials_names_every_package_and_every_crate_that_is_in_the_image() {
    let files = Files::of_image();
    let bill = files.bill();
    let programs = files.root().join("usr/local/bin");

    // Of programs, those files.
    let applications = bill["components"].as_array().unwrap().iter();
    let applications = applications.filter(|component| component["type"] == "application");
    let hashes: BTreeMap<_, _> = applications
        .map(|program| {
            (
                program["name"].as_str().unwrap(),
                program["hashes"][0]["content"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(hashes.keys().copied().collect::<Vec<_>>(), PROGRAMS);
    for name in PROGRAMS {
        assert_eq!(Program::read(&programs.join(name)).unwrap().sha256, hashes[name]);
    }

    // Of crates, all that programs name themselves, and more.
    let crates = listed(&bill, "pkg:cargo/");
    let crates: BTreeSet<_> = crates
        .iter()
        .map(|(name, version)| format!("{name}-{version}"))
        .collect();
    for name in PROGRAMS {
        let named = named_by(&fs::read(programs.join(name)).unwrap());
        assert!(named.len() >= 20, "{name}: {named:?}");
        let missing: Vec<_> = named.difference(&crates).collect();
        assert!(missing.is_empty(), "in {name}, and not in the bill: {missing:?}");
        // One that is missing would be seen.
        let tokio = named.iter().find(|name| name.starts_with("tokio-1")).unwrap();
        let mut without = crates.clone();
        without.remove(tokio);
        assert!(named.difference(&without).eq([tokio]), "{name}");
    }
    let bundled = listed(&bill, "pkg:github/");
    assert!(
        bundled.iter().any(|(name, _)| name == "librdkafka"),
        "{bundled:?}"
    );

    // Of packages, those that the base lists; and nothing that could run is of no package.
    let packages = debian::packages(&files.root()).unwrap();
    let in_image = packages
        .iter()
        .map(|package| (package.name.clone(), package.version.clone()));
    assert_eq!(listed(&bill, "pkg:deb/debian/"), in_image.collect());
    for name in ["ca-certificates", "libc6", "libssl3"] {
        assert!(packages.iter().any(|package| package.name == name), "{name}");
    }
    let of_packages: BTreeSet<_> = packages
        .iter()
        .flat_map(|package| {
            let sums = files
                .root()
                .join(format!("var/lib/dpkg/status.d/{}.md5sums", package.name));
            let sums = fs::read_to_string(sums).unwrap_or_default();
            // A package may still name /lib, which is a link to /usr/lib.
            sums.lines()
                .map(|line| {
                    Path::new("usr").join(line.split_once("  ").unwrap().1.trim_start_matches("usr/"))
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let strange: Vec<_> = files
        .compiled()
        .into_iter()
        .filter(|path| !of_packages.contains(path))
        .collect();
    let ours: Vec<_> = PROGRAMS
        .iter()
        .map(|name| Path::new("usr/local/bin").join(name))
        .collect();
    assert_eq!(strange, ours);
}

/// A container that is deleted in the end.
struct Container(String);

impl Container {
    /// Runs a command in one of the image.
    fn run(options: &[&str], command: &[&str]) -> Self {
        let run = ["run", "--detach", "--network=none"];
        Self(
            docker(&[&run, options, &[IMAGE], command].concat())
                .trim()
                .to_owned(),
        )
    }

    fn state(&self, field: &str) -> String {
        docker(&["inspect", "-f", &format!("{{{{.State.{field}}}}}"), &self.0])
            .trim()
            .to_owned()
    }

    /// What the kernel lets its process do.
    fn confinement(&self) -> Confinement {
        let process = Path::new("/proc").join(self.state("Pid"));
        let text = |file| fs::read_to_string(process.join(file)).unwrap();
        Confinement::read(&(text("status") + &text("mounts")))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn the_image_works_as_a_user_with_a_number_with_a_read_only_root_and_without_capabilities() {
    assert_eq!(
        docker(&["inspect", "-f", "{{.Config.User}}", IMAGE]).trim(),
        "65532:65532"
    );
    let demo = ["/usr/local/bin/millrace", "demo", "--duration=3s", "--rate=500"];
    let confined = [
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    ];
    let container = Container::run(&confined, &demo);
    let expected = Confinement {
        users: vec![65532; 4],
        capabilities: 0,
        no_new_privileges: true,
        writable_root: false,
    };
    assert_eq!(container.confinement(), expected);
    // It moves messages, and counts them, as far as the end.
    wait_until(SOON, "the demonstration to end", || {
        container.state("Status") == "exited"
    });
    assert_eq!(
        container.state("ExitCode"),
        "0",
        "{}",
        docker(&["logs", &container.0])
    );
    for program in PROGRAMS {
        let program = Path::new("/usr/local/bin").join(program);
        let version = ["run", "--rm", "--network=none"];
        let version = docker(
            &[
                &version,
                &confined[..],
                &[IMAGE, program.to_str().unwrap(), "--version"],
            ]
            .concat(),
        );
        assert!(version.contains("0.1.0"), "{version}");
    }

    // More would be seen; the user is the image's own.
    let free = Container::run(&[], &demo).confinement();
    assert_eq!(free.users, expected.users);
    assert!(
        free.capabilities != 0 && !free.no_new_privileges && free.writable_root,
        "{free:?}"
    );
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn nothing_in_the_image_gives_more_rights_to_who_runs_it() {
    let files = Files::of_image();
    let find = |rule: &[&str]| {
        let mut find = std::process::Command::new("find");
        let output = find.arg(files.root()).args(rule).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let changing = || find(&["-type", "f", "-perm", "/6000"]);
    assert_eq!(changing(), "", "no file changes who runs it");
    let planted = files.root().join("planted");
    std::fs::write(&planted, "").unwrap();
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o4755)).unwrap();
    assert!(changing().contains("planted"), "the search finds such files");
    let shells = files.compiled();
    let shells: Vec<_> = shells.iter().filter_map(|path| path.file_name()).collect();
    for shell in ["sh", "bash", "dash", "busybox"] {
        assert!(!shells.contains(&OsStr::new(shell)), "there is no shell");
    }
    assert!(
        shells.contains(&OsStr::new("millrace")),
        "the search finds programs"
    );
}

//! What `scripts/sign.sh` signs is verified by the commands of `docs/releases.md`, and what was changed afterwards is not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The commands of the page under a heading.
fn commands(heading: &str) -> String {
    let page = fs::read_to_string("../docs/releases.md").unwrap();
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .unwrap();
    section
        .split("```sh\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap()
        .to_owned()
}

fn run(commands: &str, folder: &Path) -> bool {
    let status = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(folder)
        .status();
    status.unwrap().success()
}

/// Makes a key as the page says.
fn key(folder: &Path) -> PathBuf {
    fs::create_dir(folder).unwrap();
    assert!(run(&commands("A key"), folder));
    folder.join("millrace.key")
}

fn sign(key: &Path, folder: &Path) -> bool {
    let signed = Command::new("../scripts/sign.sh")
        .arg(folder)
        .env("MILLRACE_SIGNING_KEY", key)
        .output();
    signed.unwrap().status.success()
}

fn verified(folder: &Path) -> bool {
    run(&commands("Verifying"), folder)
}

#[test]
fn what_is_signed_is_verified_and_what_was_changed_or_signed_by_another_is_not() {
    let work = tempfile::tempdir().unwrap();
    let (ours, another) = (key(&work.path().join("ours")), key(&work.path().join("another")));
    let release = work.path().join("release");
    fs::create_dir(&release).unwrap();
    assert!(!sign(&ours, &release), "there is nothing to sign");
    let files = ["millrace-0.1.0.tgz", "millrace-0.1.0-crds.yaml", "with a space"];
    for file in files {
        fs::write(release.join(file), format!("this is {file}\n")).unwrap();
    }
    fs::copy(ours.with_extension("pub"), release.join("millrace.pub")).unwrap();

    assert!(!verified(&release), "not signed yet");
    assert!(sign(&ours, &release));
    assert!(verified(&release));
    let sums = fs::read_to_string(release.join("SHA256SUMS")).unwrap();
    for file in files {
        assert!(sums.contains(file), "{sums}");
    }

    // A file that was changed.
    fs::write(release.join(files[1]), "this is something else\n").unwrap();
    assert!(!verified(&release));
    // And the sums with it.
    let sum = |folder: &Path| run("sha256sum millrace-* > SHA256SUMS", folder);
    assert!(sum(&release));
    assert!(!verified(&release));
    // Signed again, with another key.
    assert!(sign(&another, &release));
    assert!(!verified(&release));
    assert!(sign(&ours, &release));
    assert!(verified(&release));
    // A file that is missing.
    fs::remove_file(release.join(files[0])).unwrap();
    assert!(!verified(&release));
    assert!(!sign(&work.path().join("no-such-key"), &release));
    // A key of another kind, which leaves nothing behind that looks like a signature.
    assert!(run(
        "openssl genpkey -algorithm ED25519 -out other.key",
        work.path()
    ));
    assert!(!sign(&work.path().join("other.key"), &release));
    assert!(!release.join("SHA256SUMS.sig").exists());
}
